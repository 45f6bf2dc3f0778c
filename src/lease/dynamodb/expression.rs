//! Update and condition expressions.

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::Item;

/// What to write and on which condition, with every name and value as a placeholder, since names such as `state`
/// are reserved words.
#[derive(Debug, Default)]
pub(super) struct Expression {
    set: Vec<String>,
    remove: Vec<String>,
    add: Vec<String>,
    delete: Vec<String>,
    conditions: Vec<String>,
    names: std::collections::BTreeMap<String, String>,
    values: Item,
}

impl Expression {
    fn name(&mut self, attribute: &str) -> String {
        let placeholder = format!("#{attribute}");
        self.names.insert(placeholder.clone(), attribute.to_owned());
        placeholder
    }

    fn value(&mut self, role: &str, attribute: &str, value: AttributeValue) -> String {
        let placeholder = format!(":{role}_{attribute}");
        self.values.insert(placeholder.clone(), value);
        placeholder
    }

    /// Sets the attribute, or removes it where there is no value.
    pub(super) fn assign(mut self, attribute: &str, value: Option<AttributeValue>) -> Self {
        let name = self.name(attribute);
        match value {
            Some(value) => {
                let value = self.value("new", attribute, value);
                self.set.push(format!("{name} = {value}"));
            }
            None => self.remove.push(name),
        }
        self
    }

    /// Adds to a set.
    pub(super) fn add(mut self, attribute: &str, members: Option<AttributeValue>) -> Self {
        if let Some(members) = members {
            let clause = format!("{} {}", self.name(attribute), self.value("add", attribute, members));
            self.add.push(clause);
        }
        self
    }

    /// Deletes from a set.
    pub(super) fn delete(mut self, attribute: &str, members: Option<AttributeValue>) -> Self {
        if let Some(members) = members {
            let clause = format!("{} {}", self.name(attribute), self.value("del", attribute, members));
            self.delete.push(clause);
        }
        self
    }

    /// Changes what differs between two states of an item.
    pub(super) fn changes(mut self, current: &Item, next: &Item) -> Self {
        for (attribute, value) in next {
            if current.get(attribute) != Some(value) {
                self = self.assign(attribute, Some(value.clone()));
            }
        }
        for attribute in current.keys().filter(|attribute| !next.contains_key(*attribute)) {
            self = self.assign(attribute, None);
        }
        self
    }

    /// Only if the attribute has this value.
    pub(super) fn if_equal(mut self, attribute: &str, value: AttributeValue) -> Self {
        let condition = format!("{} = {}", self.name(attribute), self.value("if", attribute, value));
        self.conditions.push(condition);
        self
    }

    /// Only if the attribute exists.
    pub(super) fn if_exists(mut self, attribute: &str) -> Self {
        let condition = format!("attribute_exists({})", self.name(attribute));
        self.conditions.push(condition);
        self
    }

    /// Only if the attribute does not exist.
    pub(super) fn if_absent(mut self, attribute: &str) -> Self {
        let condition = format!("attribute_not_exists({})", self.name(attribute));
        self.conditions.push(condition);
        self
    }

    /// The update expression; `None` when nothing is to be changed.
    pub(super) fn update(&self) -> Option<String> {
        let clauses = [("SET", &self.set), ("REMOVE", &self.remove), ("ADD", &self.add), ("DELETE", &self.delete)];
        let parts: Vec<String> =
            clauses.iter().filter(|(_, list)| !list.is_empty()).map(|(verb, list)| format!("{verb} {}", list.join(", "))).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }

    /// The condition expression.
    pub(super) fn condition(&self) -> Option<String> {
        (!self.conditions.is_empty()).then(|| self.conditions.join(" AND "))
    }

    /// The names behind the placeholders.
    pub(super) fn names<T: FromIterator<(String, String)>>(&self) -> Option<T> {
        (!self.names.is_empty()).then(|| self.names.clone().into_iter().collect())
    }

    /// The values behind the placeholders.
    pub(super) fn values<T: FromIterator<(String, AttributeValue)>>(&self) -> Option<T> {
        (!self.values.is_empty()).then(|| self.values.clone().into_iter().collect())
    }
}
