//! `orbit-store` remembers: the only crate that speaks SQL or touches blobs.
