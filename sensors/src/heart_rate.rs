//! Heart-rate monitors: the GATT Heart Rate profile, and BlueZ as the way to it.
