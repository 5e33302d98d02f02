//! Endpoint and credentials by the names of the Azure tools.

use storage_core::{Error, Result};

use super::{AzureCredentials, AzureIdentity};

const CONNECTION_STRING: &str = "AZURE_STORAGE_CONNECTION_STRING";
const PUBLIC_SUFFIX: &str = "core.windows.net";

/// The endpoint of `account` and who asks. A connection string comes before a key, that before a signature, and an identity
/// last.
pub(in crate::home) fn settings(
    account: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, AzureCredentials)> {
    if let Some(text) = variable(CONNECTION_STRING) {
        return ConnectionString(&text).settings(account);
    }
    if variable("AZURE_STORAGE_ACCOUNT").is_some_and(|other| other != account) {
        return Err(Error::config("AZURE_STORAGE_ACCOUNT is another account than the URL's"));
    }
    let endpoint =
        variable("AZURE_STORAGE_BLOB_ENDPOINT").unwrap_or_else(|| public_endpoint("https", account, None));
    let credentials = if let Some(key) = variable("AZURE_STORAGE_KEY") {
        shared_key(account, key)
    } else if let Some(signature) = variable("AZURE_STORAGE_SAS_TOKEN") {
        AzureCredentials::Sas(signature)
    } else {
        AzureCredentials::Identity(AzureIdentity {
            tenant: variable("AZURE_TENANT_ID"),
            client: variable("AZURE_CLIENT_ID"),
            secret: variable("AZURE_CLIENT_SECRET"),
            token_file: variable("AZURE_FEDERATED_TOKEN_FILE").map(Into::into),
        })
    };
    Ok((endpoint, credentials))
}

fn shared_key(account: &str, key: String) -> AzureCredentials {
    AzureCredentials::SharedKey { account: account.to_owned(), key }
}

fn public_endpoint(protocol: &str, account: &str, suffix: Option<&str>) -> String {
    format!("{protocol}://{account}.blob.{}", suffix.unwrap_or(PUBLIC_SUFFIX))
}

/// `Name=value` parts between semicolons.
struct ConnectionString<'a>(&'a str);

impl ConnectionString<'_> {
    fn part(&self, name: &str) -> Option<&str> {
        let mut parts = self.0.split(';').filter_map(|part| part.split_once('='));
        parts.find(|(found, _)| found.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn settings(&self, account: &str) -> Result<(String, AzureCredentials)> {
        if self.part("AccountName").is_some_and(|other| other != account) {
            return Err(Error::config(format!("{CONNECTION_STRING} is for another account than the URL's")));
        }
        let credentials = match (self.part("AccountKey"), self.part("SharedAccessSignature")) {
            (Some(key), _) => shared_key(account, key.to_owned()),
            (None, Some(signature)) => AzureCredentials::Sas(signature.to_owned()),
            (None, None) => {
                return Err(Error::config(format!("{CONNECTION_STRING} has no credentials"))
                    .with_hint("it needs AccountKey or SharedAccessSignature"));
            }
        };
        let protocol = self.part("DefaultEndpointsProtocol").unwrap_or("https");
        let usual = || public_endpoint(protocol, account, self.part("EndpointSuffix"));
        Ok((self.part("BlobEndpoint").map_or_else(usual, str::to_owned), credentials))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Variables<'a> = &'a [(&'a str, &'a str)];

    /// The endpoint, and the credentials with their content.
    fn found(account: &str, variables: Variables<'_>) -> Result<(String, String)> {
        let variable = |name: &str| {
            variables.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned())
        };
        let (endpoint, credentials) = settings(account, &variable)?;
        let content = match credentials {
            AzureCredentials::SharedKey { account, key } => format!("key {account} {key}"),
            AzureCredentials::Sas(signature) => format!("sas {signature}"),
            AzureCredentials::Identity(identity) => format!("client {}", identity.client.unwrap_or_default()),
        };
        Ok((endpoint, content))
    }

    #[test]
    fn variables_say_who_asks_and_where() {
        let usual = "https://agents.blob.core.windows.net";
        let table: [(Variables<'_>, &str, &str); 6] = [
            (&[], usual, "client "),
            (&[("AZURE_CLIENT_ID", "c")], usual, "client c"),
            (&[("AZURE_STORAGE_SAS_TOKEN", "?sig=s")], usual, "sas ?sig=s"),
            (&[("AZURE_STORAGE_KEY", "k"), ("AZURE_STORAGE_SAS_TOKEN", "s")], usual, "key agents k"),
            (
                &[(CONNECTION_STRING, "AccountName=agents;AccountKey=a+b/c==;EndpointSuffix=core.example")],
                "https://agents.blob.core.example",
                "key agents a+b/c==",
            ),
            (
                &[(
                    CONNECTION_STRING,
                    "BlobEndpoint=http://127.0.0.1:1/agents;SharedAccessSignature=sv=1&sig=s",
                )],
                "http://127.0.0.1:1/agents",
                "sas sv=1&sig=s",
            ),
        ];
        for (variables, endpoint, credentials) in table {
            assert_eq!(found("agents", variables).unwrap(), (endpoint.to_owned(), credentials.to_owned()));
        }
    }

    #[test]
    fn another_account_and_missing_credentials_are_refused() {
        for variables in [
            [("AZURE_STORAGE_ACCOUNT", "others")],
            [(CONNECTION_STRING, "AccountName=others;AccountKey=secret")],
            [(CONNECTION_STRING, "secret")],
        ] {
            let error = found("agents", &variables).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
