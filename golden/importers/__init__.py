"""Networks of other tools become quantised networks: TensorFlow Lite."""
