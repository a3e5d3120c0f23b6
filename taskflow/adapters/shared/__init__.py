"""No adapter: what adapters have in common, those of one server above all. They import it; it imports none of them."""
