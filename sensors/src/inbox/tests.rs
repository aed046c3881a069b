//! The socket, with a sampler that stores nothing.
