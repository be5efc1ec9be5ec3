//! What people and programs see of this backend: pages, problem documents, and the headers that every response carries.

pub mod form;
pub mod gateway;
pub mod page;
pub mod problem;
pub mod response;
