//! What a write rests on and what it changes. One helper builds the expressions of every write.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::update_item::UpdateItemInput;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemInputBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem, Update};
use jiff::Timestamp;

use super::records::{encode, number, text, value};
use super::{Item, StoreError, refused};
use domain::service::{Lifecycle, Service};
use domain::tenant::{NextKey, Tenant};

/// Attributes of ours whose names DynamoDB reserves.
const RESERVED: [&str; 4] = ["change", "first", "owner", "status"];

/// The expressions of one write, with the names and values that they use. All conditions must hold.
#[derive(Default)]
pub(super) struct UpdateExpr {
    conditions: Vec<String>,
    set: Vec<String>,
    remove: Vec<String>,
    names: Option<HashMap<String, String>>,
    values: Option<Item>,
}

impl UpdateExpr {
    /// If nothing is there, or what has expired and DynamoDB has not deleted yet.
    pub(super) fn if_absent(now: Timestamp) -> Self {
        Self::default()
            .and("(attribute_not_exists(pk) OR expires_at <= :time)")
            .with("time", number(now.as_second()))
    }

    /// If the item is there.
    pub(super) fn if_there() -> Self {
        Self::default().and("attribute_exists(pk)")
    }

    /// If the service is there, and Forge has accepted it.
    pub(super) fn if_accepted() -> Result<Self, StoreError> {
        let pending = value(&Lifecycle::Pending)?;
        Ok(Self::if_there().and("activity <> :pending").with("pending", pending))
    }

    /// If the tenant has the key, the status and the last registration that were read.
    pub(super) fn if_tenant_as_read(tenant: &Tenant) -> Result<Self, StoreError> {
        let expr = Self::default()
            .and_is("publicKey", text(encode(tenant.web_trigger().key.public.as_bytes())))
            .and_is("status", value(&tenant.status)?)
            .and_as_read("registeredAt", value(&tenant.registered_at)?);
        Ok(expr)
    }

    /// If the service is the one that was read, and as active.
    pub(super) fn if_service_as_read(service: &Service) -> Result<Self, StoreError> {
        let expr = Self::default()
            .and_is("owner", value(&service.owner)?)
            .and_is("createdAt", value(&service.created_at)?)
            .and_is("activity", value(&service.lifecycle)?);
        Ok(expr)
    }

    /// And the tenant's next key is still what was read.
    pub(super) fn and_next_key_as_read(self, found: &NextKey) -> Result<Self, StoreError> {
        let expr = self
            .and_is("nextKey.publicKey", text(encode(found.key.public.as_bytes())))
            .and_is("nextKey.accepted", value(&found.is_accepted)?)
            .and_is("nextKey.refusedAt", value(&found.refused_at)?)
            .and_is("nextKey.introducedUntil", value(&found.endorsed_until)?);
        Ok(expr)
    }

    /// And this holds. Names the values of [`UpdateExpr::with`] and those that are set, each by its attribute.
    pub(super) fn and(mut self, condition: &str) -> Self {
        self.conditions.push(condition.to_owned());
        self
    }

    /// And the attribute has this value.
    pub(super) fn and_is(mut self, path: &str, value: AttributeValue) -> Self {
        let placeholder = format!("is_{}", path.replace('.', "_"));
        let condition = format!("{} = :{placeholder}", self.attribute(path));
        self.and(&condition).with(&placeholder, value)
    }

    /// And the attribute is what was read, an absent one included (`NULL`).
    pub(super) fn and_as_read(mut self, path: &str, read: AttributeValue) -> Self {
        if !read.is_null() {
            return self.and_is(path, read);
        }
        let condition = format!("attribute_not_exists({})", self.attribute(path));
        self.and(&condition)
    }

    pub(super) fn set(mut self, path: &str, value: AttributeValue) -> Self {
        let placeholder = path.replace('.', "_");
        let assignment = format!("{} = :{placeholder}", self.attribute(path));
        self.set.push(assignment);
        self.with(&placeholder, value)
    }

    /// Sets what is not there yet.
    pub(super) fn set_first(mut self, name: &str, value: AttributeValue) -> Self {
        let attribute = self.attribute(name);
        self.set.push(format!("{attribute} = if_not_exists({attribute}, :{name})"));
        self.with(name, value)
    }

    /// One more, from zero.
    pub(super) fn count(mut self, name: &str) -> Self {
        self.set.push(format!("{name} = if_not_exists({name}, :zero) + :one"));
        self.with("zero", number(0)).with("one", number(1))
    }

    pub(super) fn remove(mut self, name: &str) -> Self {
        let attribute = self.attribute(name);
        self.remove.push(attribute);
        self
    }

    /// A value that a condition names.
    pub(super) fn with(mut self, placeholder: &str, value: AttributeValue) -> Self {
        self.values.get_or_insert_default().insert(format!(":{placeholder}"), value);
        self
    }

    /// A reserved name that a condition names with `#`.
    pub(super) fn with_name(mut self, name: &str) -> Self {
        self.attribute(name);
        self
    }

    /// The attribute as an expression names it.
    fn attribute(&mut self, path: &str) -> String {
        if !RESERVED.contains(&path) {
            return path.to_owned();
        }
        let placeholder = format!("#{path}");
        self.names.get_or_insert_default().insert(placeholder.clone(), path.to_owned());
        placeholder
    }

    fn condition(&self) -> String {
        self.conditions.join(" AND ")
    }

    fn update_expression(&self) -> String {
        let clause = |word: &str, parts: &[String]| {
            (!parts.is_empty()).then(|| format!("{word} {}", parts.join(", ")))
        };
        let clauses = [clause("SET", &self.set), clause("REMOVE", &self.remove)];
        clauses.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// As an update by itself.
    pub(super) fn update(self, table: &str, key: Item) -> UpdateItemInputBuilder {
        UpdateItemInput::builder()
            .table_name(table)
            .set_key(Some(key))
            .update_expression(self.update_expression())
            .condition_expression(self.condition())
            .set_expression_attribute_names(self.names)
            .set_expression_attribute_values(self.values)
    }

    /// As an update in a transaction.
    pub(super) fn update_in(self, table: &str, key: Item) -> Result<TransactWriteItem, StoreError> {
        let update = Update::builder()
            .table_name(table)
            .set_key(Some(key))
            .update_expression(self.update_expression())
            .condition_expression(self.condition())
            .set_expression_attribute_names(self.names)
            .set_expression_attribute_values(self.values);
        Ok(TransactWriteItem::builder().update(update.build().map_err(refused)?).build())
    }

    /// As the condition of a whole item in a transaction.
    pub(super) fn put_in(self, table: &str, item: Item) -> Result<TransactWriteItem, StoreError> {
        let put = Put::builder()
            .table_name(table)
            .set_item(Some(item))
            .condition_expression(self.condition())
            .set_expression_attribute_names(self.names)
            .set_expression_attribute_values(self.values);
        Ok(TransactWriteItem::builder().put(put.build().map_err(refused)?).build())
    }

    /// As the condition of a deletion in a transaction.
    pub(super) fn delete_in(self, table: &str, key: Item) -> Result<TransactWriteItem, StoreError> {
        let delete = Delete::builder()
            .table_name(table)
            .set_key(Some(key))
            .condition_expression(self.condition())
            .set_expression_attribute_names(self.names)
            .set_expression_attribute_values(self.values);
        Ok(TransactWriteItem::builder().delete(delete.build().map_err(refused)?).build())
    }

    /// As a condition on an item that a transaction leaves as it is.
    pub(super) fn check_in(self, table: &str, key: Item) -> Result<TransactWriteItem, StoreError> {
        let check = ConditionCheck::builder()
            .table_name(table)
            .set_key(Some(key))
            .condition_expression(self.condition())
            .set_expression_attribute_names(self.names)
            .set_expression_attribute_values(self.values);
        Ok(TransactWriteItem::builder().condition_check(check.build().map_err(refused)?).build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_names_what_it_uses_and_nothing_else() {
        let expr = UpdateExpr::default()
            .and_is("status", text("active"))
            .and_as_read("registeredAt", AttributeValue::Null(true))
            .set("nextKey.accepted", AttributeValue::Bool(true))
            .set_first("first", text("alive"))
            .remove("expires_at")
            .remove("failingSince");
        assert_eq!(
            expr.update_expression(),
            "SET nextKey.accepted = :nextKey_accepted, #first = if_not_exists(#first, :first) \
             REMOVE expires_at, failingSince"
        );
        assert_eq!(expr.condition(), "#status = :is_status AND attribute_not_exists(registeredAt)");
        let mut values: Vec<_> = expr.values.unwrap().into_keys().collect();
        values.sort();
        assert_eq!(values, [":first", ":is_status", ":nextKey_accepted"]);
        let mut names: Vec<_> = expr.names.unwrap().into_keys().collect();
        names.sort();
        assert_eq!(names, ["#first", "#status"]);
    }

    #[test]
    fn what_only_removes_has_no_values() {
        let expr = UpdateExpr::if_there().remove("expires_at");
        assert_eq!(
            (expr.update_expression().as_str(), expr.condition().as_str()),
            ("REMOVE expires_at", "attribute_exists(pk)")
        );
        assert!(expr.values.is_none() && expr.names.is_none());
    }
}
