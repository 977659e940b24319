//! ONVIF event services: SOAP calls and answers (`soap`), and the meaning of topics (`map`).
pub mod map;
pub mod soap;
