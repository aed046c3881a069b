//! A stand-in for AWS IoT Core.
