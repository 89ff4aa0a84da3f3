"""How patches are read ahead: by threads or by processes, inside one limit. Nothing here imports torch."""
