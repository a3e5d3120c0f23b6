"""The only place that knows everything: settings, plug-ins, container, runtime."""
