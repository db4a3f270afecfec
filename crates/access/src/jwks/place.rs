//! Where a set of keys is: a URL, as far as it is one that is fetched.

use hyper::Uri;

/// Where a set of keys is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    uri: Uri,
    is_encrypted: bool,
    host: String,
    port: u16,
    /// Whether it may be at an address that is not public.
    allow_private: bool,
}

/// Why a URL is not fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// It is none.
    #[error("`jwks_url` is no URL")]
    NoUrl,
    /// Its scheme.
    #[error("`jwks_url` must begin with https://; plain http:// needs `allow_private`")]
    Scheme,
    /// A user name or a password in it.
    #[error("`jwks_url` has a user name or a password, which is not sent")]
    UserInfo,
}

impl Place {
    /// Reads a URL.
    pub(crate) fn parse(url: &str, allow_private: bool) -> Result<Self, PlaceError> {
        let uri: Uri = url.parse().map_err(|_| PlaceError::NoUrl)?;
        let is_encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if allow_private => false,
            Some(_) => return Err(PlaceError::Scheme),
            None => return Err(PlaceError::NoUrl),
        };
        let authority = uri.authority().ok_or(PlaceError::NoUrl)?;
        if authority.as_str().contains('@') {
            return Err(PlaceError::UserInfo);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        // What stands behind the host is a port, or nothing.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") if is_encrypted => 443,
            Some("") => 80,
            _ => authority.port_u16().ok_or(PlaceError::NoUrl)?,
        };
        if host.is_empty() {
            return Err(PlaceError::NoUrl);
        }
        Ok(Place { uri, is_encrypted, host, port, allow_private })
    }

    /// The name or address of its server, without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    pub(super) fn allows_private(&self) -> bool {
        self.allow_private
    }

    /// The `Host` of a request for it.
    pub(super) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// The target of a request for it.
    pub(super) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }
}
