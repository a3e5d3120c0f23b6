"""Long loops: consumer, scheduler, api."""
