"""The daemon: when cycles run, who may write, how its health is judged, how it stops."""
