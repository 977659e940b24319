//! Where events come from. A source maps its messages to events and hands them to the intake; none
//! knows another.
pub mod body;
pub mod mapping;
pub mod push;
pub mod text;
