//! Payloads: content-addressed, durable before they are named, never changed.
