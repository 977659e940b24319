//! ONVIF event services: SOAP calls and answers (`soap`), and what topics mean (`map`).
pub mod map;
pub mod soap;
