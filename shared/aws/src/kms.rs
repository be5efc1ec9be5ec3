//! Keys in AWS KMS: the deployment key (signs there) and the wrapping key (makes and unwraps tenant keys).
//!
//! The encryption context always names a `purpose`, which IAM and key policy pin, so that no other ciphertext of the
//! account can be unwrapped through these permissions.

use std::collections::HashMap;

use aws_sdk_kms::Client;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::decrypt::DecryptInput;
use aws_sdk_kms::operation::generate_data_key_pair_without_plaintext::GenerateDataKeyPairWithoutPlaintextInput;
use aws_sdk_kms::operation::get_public_key::GetPublicKeyInput;
use aws_sdk_kms::operation::sign::SignInput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeyPairSpec, MessageType, SigningAlgorithmSpec};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::client::BoundedClient;
use domain::key::{KeyContext, KeyError, PrivateKey, PublicKey, Sign, WrappedKey};

/// Calls at once for each of the two keys. A warm round of checks makes none, a cold one about fifty a second, of ten
/// milliseconds each: this bounds only what piles up when KMS is slow.
const CALLS_AT_ONCE: usize = 32;

/// The deployment key. Signs REGISTER and key endorsements inside KMS.
#[derive(Debug)]
pub struct DeploymentKey {
    client: BoundedClient<Client>,
    key_id: String,
    public_key: OnceCell<PublicKey>,
}

impl DeploymentKey {
    /// `key_id`: id or ARN of an `ECC_NIST_EDWARDS25519` key for signing.
    #[must_use]
    pub fn new(client: Client, key_id: String) -> Self {
        Self { client: BoundedClient::new(client, CALLS_AT_ONCE), key_id, public_key: OnceCell::new() }
    }
}

impl Sign for DeploymentKey {
    /// Asked once per process: the public half of a KMS key never changes.
    async fn public_key(&self) -> Result<PublicKey, KeyError> {
        let ask = || async {
            let get = GetPublicKeyInput::builder().key_id(&self.key_id);
            let answer =
                self.client.send(|kms| async move { get.send_with(&kms).await }).await.map_err(classify)?;
            let der = answer.public_key().ok_or(KeyError::Mismatch)?;
            PublicKey::from_spki(der.as_ref()).map_err(|_| KeyError::Mismatch)
        };
        self.public_key.get_or_try_init(ask).await.cloned()
    }

    /// `message` has at most 4,096 bytes (the limit of KMS for `RAW`); a token never nears it.
    async fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        let sign = SignInput::builder()
            .key_id(&self.key_id)
            .message(Blob::new(message))
            .message_type(MessageType::Raw)
            .signing_algorithm(SigningAlgorithmSpec::Ed25519Sha512);
        let answer =
            self.client.send(|kms| async move { sign.send_with(&kms).await }).await.map_err(classify)?;
        let signature = answer.signature().map(AsRef::as_ref).unwrap_or_default();
        signature.try_into().map_err(|_| KeyError::Mismatch)
    }
}

/// The symmetric key under which every tenant's private key is stored.
#[derive(Debug, Clone)]
pub struct WrappingKey {
    client: BoundedClient<Client>,
    key_id: String,
}

impl WrappingKey {
    /// `key_id`: id or ARN of a symmetric KMS key.
    #[must_use]
    pub fn new(client: Client, key_id: String) -> Self {
        Self { client: BoundedClient::new(client, CALLS_AT_ONCE), key_id }
    }

    /// A new key pair, its private half wrapped under `context` (add-service, rotate-keys). The maker never sees a private key.
    pub async fn make_key(&self, context: &KeyContext) -> Result<(PublicKey, WrappedKey), KeyError> {
        let make = GenerateDataKeyPairWithoutPlaintextInput::builder()
            .key_id(&self.key_id)
            .key_pair_spec(DataKeyPairSpec::EccNistEdwards25519)
            .set_encryption_context(Some(encryption_context(context)));
        let answer =
            self.client.send(|kms| async move { make.send_with(&kms).await }).await.map_err(classify)?;
        let (Some(public), Some(wrapped)) = (answer.public_key(), answer.private_key_ciphertext_blob())
        else {
            return Err(KeyError::Mismatch);
        };
        let public = PublicKey::from_spki(public.as_ref()).map_err(|_| KeyError::Mismatch)?;
        Ok((public, WrappedKey::new(wrapped.as_ref().to_vec())))
    }

    /// The private key, if `wrapped` was made under `context` (check-services).
    pub async fn unwrap_key(
        &self,
        wrapped: &WrappedKey,
        context: &KeyContext,
    ) -> Result<PrivateKey, KeyError> {
        let decrypt = DecryptInput::builder()
            .key_id(&self.key_id)
            .ciphertext_blob(Blob::new(wrapped.as_bytes()))
            .set_encryption_context(Some(encryption_context(context)));
        let answer =
            self.client.send(|kms| async move { decrypt.send_with(&kms).await }).await.map_err(classify)?;
        let plaintext = answer.plaintext.ok_or(KeyError::Mismatch)?;
        PrivateKey::from_pkcs8(&Zeroizing::new(plaintext.into_inner())).map_err(|_| KeyError::Mismatch)
    }
}

fn encryption_context(context: &KeyContext) -> HashMap<String, String> {
    HashMap::from([
        ("purpose".to_owned(), "tenant-key".to_owned()),
        ("cloudId".to_owned(), context.cloud_id.to_string()),
        ("tenantId".to_owned(), context.tenant_id.to_string()),
    ])
}

fn classify<E, R>(error: SdkError<E, R>) -> KeyError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let Some(service) = error.as_service_error() else {
        return KeyError::Unavailable(Box::new(error));
    };
    match service.code() {
        Some("InvalidCiphertextException" | "IncorrectKeyException") => KeyError::Mismatch,
        Some(
            "AccessDeniedException"
            | "DisabledException"
            | "InvalidKeyUsageException"
            | "KMSInvalidStateException"
            | "NotFoundException"
            | "UnsupportedOperationException"
            | "ValidationException",
        ) => KeyError::Refused(Box::new(error)),
        _ => KeyError::Unavailable(Box::new(error)),
    }
}
