"""INNAprop as a ``tf.Module``, for TensorFlow loops without Keras."""

from innaprop.extras import extra

with extra("tensorflow"):
    from innaprop.tensorflow.diagnostics import TensorBoard, measure
    from innaprop.tensorflow.optimizer import INNAprop

__all__ = ["INNAprop", "TensorBoard", "measure"]
