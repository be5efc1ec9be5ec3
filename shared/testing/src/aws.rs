//! The local AWS that `make test` starts, and fresh resources in it for every test.

use std::time::Duration;

use aws::kms::{DeploymentKey, WrappingKey};
use aws::store::Store;
use aws::system::random_nonce;
use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use aws_sdk_kms::types::{KeySpec, KeyUsageType};

use crate::faults::Faults;

/// A table and two keys of one test.
#[derive(Debug, Clone)]
pub struct LocalAws {
    /// For further clients.
    pub settings: SdkConfig,
    /// The table's name.
    pub table: String,
    /// The key that signs REGISTER.
    pub deployment_key_id: String,
    /// The key that wraps tenant keys.
    pub wrapping_key_id: String,
    /// Of its clients.
    faults: Option<Faults>,
}

impl LocalAws {
    /// Makes them. The table has the schema of infra/template.yaml; that one is driven by the end-to-end test.
    ///
    /// # Panics
    /// Without a local AWS: these tests never skip.
    pub async fn start() -> Self {
        let settings = aws::client::settings().await;
        assert!(
            settings.endpoint_url().is_some_and(|url| url.starts_with("http://127.0.0.1:")),
            "AWS_ENDPOINT_URL names no local AWS; run `make aws` and load the file that it names, or `make test`"
        );
        let table = format!("test-{}", data_encoding::HEXLOWER.encode(&random_nonce()));
        create_table(&aws_sdk_dynamodb::Client::new(&settings), &table).await;
        let kms = aws_sdk_kms::Client::new(&settings);
        let deployment_key_id =
            create_key(&kms, KeySpec::EccNistEdwards25519, KeyUsageType::SignVerify).await;
        let wrapping_key_id = create_key(&kms, KeySpec::SymmetricDefault, KeyUsageType::EncryptDecrypt).await;
        Self { settings, table, deployment_key_id, wrapping_key_id, faults: None }
    }

    /// The same table and keys through clients with these faults. They try as often as deployed ones, without waiting.
    #[must_use]
    pub fn with_faults(&self, faults: &Faults) -> Self {
        let attempts = self.settings.retry_config().map_or(3, RetryConfig::max_attempts);
        let retries = RetryConfig::standard()
            .with_max_attempts(attempts)
            .with_initial_backoff(Duration::from_millis(1));
        let settings = self.settings.to_builder().retry_config(retries).build();
        Self { settings, faults: Some(faults.clone()), ..self.clone() }
    }

    /// The store on the test's table.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::new(self.dynamo(), self.table.clone())
    }

    /// The test's deployment key.
    #[must_use]
    pub fn deployment_key(&self) -> DeploymentKey {
        DeploymentKey::new(self.kms(), self.deployment_key_id.clone())
    }

    /// The test's wrapping key.
    #[must_use]
    pub fn wrapping_key(&self) -> WrappingKey {
        WrappingKey::new(self.kms(), self.wrapping_key_id.clone())
    }

    /// A client for looking at, or spoiling, what is stored.
    #[must_use]
    pub fn dynamo(&self) -> aws_sdk_dynamodb::Client {
        let mut config = aws_sdk_dynamodb::config::Builder::from(&self.settings);
        if let Some(faults) = &self.faults {
            config = config.interceptor(faults.clone());
        }
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// A client for the keys.
    #[must_use]
    pub fn kms(&self) -> aws_sdk_kms::Client {
        let mut config = aws_sdk_kms::config::Builder::from(&self.settings);
        if let Some(faults) = &self.faults {
            config = config.interceptor(faults.clone());
        }
        aws_sdk_kms::Client::from_conf(config.build())
    }

    /// A client for an EventBridge at this address.
    #[must_use]
    pub fn eventbridge(&self, url: &str) -> aws_sdk_eventbridge::Client {
        let mut config = aws_sdk_eventbridge::config::Builder::from(&self.settings).endpoint_url(url);
        if let Some(faults) = &self.faults {
            config = config.interceptor(faults.clone());
        }
        aws_sdk_eventbridge::Client::from_conf(config.build())
    }
}

async fn create_table(dynamo: &aws_sdk_dynamodb::Client, name: &str) {
    let attribute = |name: &str| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .expect("a whole definition")
    };
    let key = |name: &str, kind: KeyType| {
        KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("a whole key")
    };
    let index = GlobalSecondaryIndex::builder()
        .index_name("active")
        .key_schema(key("active", KeyType::Hash))
        .key_schema(key("tenantId", KeyType::Range))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
        .expect("a whole index");
    dynamo
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(["pk", "sk", "active", "tenantId"].map(attribute).to_vec()))
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .global_secondary_indexes(index)
        .send()
        .await
        .expect("a table in the local AWS");
}

async fn create_key(kms: &aws_sdk_kms::Client, spec: KeySpec, usage: KeyUsageType) -> String {
    let made = kms.create_key().key_spec(spec).key_usage(usage).send().await.expect("a key in the local AWS");
    made.key_metadata().map(|key| key.key_id().to_owned()).expect("the key's id")
}
