-- Who signs in by OpenID Connect: 1 where an administrator, or the config's map of groups, lets them.
ALTER TABLE users ADD COLUMN oidc SMALLINT NOT NULL DEFAULT 0;

-- Accounts of the provider and the users that they are of. subject is the provider's name for the account, for good.
CREATE TABLE identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    login TEXT NOT NULL,
    linked_ms BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE UNIQUE INDEX identities_login ON identities (login);
