//! The seam between the model and what keeps it.

use std::fmt::Debug;

use super::model::{Model, change::Change};
use crate::error::Result;

/// Keeps a model across restarts.
pub(super) trait Keeper: Debug + Send {
    /// Makes the changes durable, all or none of them, in their order. The rows they name are as `model` has them now.
    ///
    /// # Errors
    /// When they could not be written; the caller tries them again before it lets the model change further.
    fn save(&mut self, model: &Model, changes: &[Change]) -> Result<()>;
}
