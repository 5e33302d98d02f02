//! Who asks: an identity, an account's key, or a shared access signature.

use std::{fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use azure_core::{
    credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions},
    error::ErrorKind as SdkErrorKind,
    http::{ClientOptions, Transport},
};
use azure_identity::{
    AzureCliCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use storage_core::{Error, Result};

/// How to prove to Azure who asks. Its `Debug` text holds no secret.
#[derive(Clone)]
#[non_exhaustive]
pub enum AzureCredentials {
    /// An account's name and its key in base64.
    SharedKey {
        /// The account's name.
        account: String,
        /// One of its keys.
        key: String,
    },
    /// A shared access signature: the part of its URL behind the `?`.
    Sas(String),
    /// An identity of Entra.
    Identity(AzureIdentity),
}

impl fmt::Debug for AzureCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SharedKey { .. } => "SharedKey(…)",
            Self::Sas(_) => "Sas(…)",
            Self::Identity(_) => "Identity(…)",
        })
    }
}

/// An identity of Entra. With all three of tenant, client and secret it is that application; with tenant, client and token
/// file a workload identity; else who is logged in to the Azure CLI, or the machine's managed identity.
#[derive(Clone, Default)]
pub struct AzureIdentity {
    /// The tenant of an application or workload.
    pub tenant: Option<String>,
    /// The client id of an application, a workload or a managed identity that a user assigned.
    pub client: Option<String>,
    /// An application's secret.
    pub secret: Option<String>,
    /// The file with a workload's token.
    pub token_file: Option<PathBuf>,
}

impl fmt::Debug for AzureIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AzureIdentity(…)")
    }
}

/// What hands out the tokens of `identity`, through `transport`.
pub(super) fn token_credential(
    identity: AzureIdentity,
    transport: &Transport,
) -> Result<Arc<dyn TokenCredential>> {
    let client_options = ClientOptions { transport: Some(transport.clone()), ..ClientOptions::default() };
    let AzureIdentity { tenant, client, secret, token_file } = identity;
    let made: azure_core::Result<Arc<dyn TokenCredential>> = match (tenant, client, secret, token_file) {
        (Some(tenant), Some(client), Some(secret), _) => {
            let options = ClientSecretCredentialOptions { client_options };
            ClientSecretCredential::new(&tenant, client, Secret::new(secret), Some(options))
                .map(|made| made as _)
        }
        (tenant_id, client_id, None, Some(file)) => {
            let options = WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options },
                client_id,
                tenant_id,
                token_file_path: Some(file),
            };
            WorkloadIdentityCredential::new(Some(options)).map(|made| made as _)
        }
        (_, _, Some(_), _) => return Err(incomplete()),
        (_, client, None, None) => of_this_machine(client, client_options),
    };
    made.map_err(|_| incomplete())
}

/// The CLI first: where it is not installed that is known at once, while a machine without a managed identity lets the
/// request for one time out.
fn of_this_machine(
    client: Option<String>,
    client_options: ClientOptions,
) -> azure_core::Result<Arc<dyn TokenCredential>> {
    let user_assigned_id = client.map(UserAssignedId::ClientId);
    let managed = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
    let all: Vec<Arc<dyn TokenCredential>> =
        vec![AzureCliCredential::new(None)?, ManagedIdentityCredential::new(Some(managed))?];
    Ok(Arc::new(FirstOf(all)))
}

fn incomplete() -> Error {
    Error::config("the identity for Azure is not complete")
        .with_hint("an application needs tenant, client and secret, a workload tenant, client and token file")
}

/// Asks one after the other.
#[derive(Debug)]
struct FirstOf(Vec<Arc<dyn TokenCredential>>);

#[async_trait]
impl TokenCredential for FirstOf {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        for credential in &self.0 {
            if let Ok(token) = credential.get_token(scopes, options.clone()).await {
                return Ok(token);
            }
        }
        Err(azure_core::Error::with_message(SdkErrorKind::Credential, "no credential has a token"))
    }
}
