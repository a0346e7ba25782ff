// Package provider is what rekey asks of those who issue and revoke keys. Each adapter has a package of its
// own below this one and passes the same conformance suite (providertest).
//
// Adapters know nothing of Temporal. They return *fault.Error for every failure, and never retry a request
// that changes something: a repeated create mints twice.
//
// To write one: embed Unsupported, say in Capabilities what the provider can do, implement the methods for that, map every
// answer of the provider to a class of fault and a code of your own (its texts may hold keys), and run providertest.Run
// against a simulator that speaks the real protocol.
package provider

import (
	"context"
	"time"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// Capabilities say what an adapter can do and what to expect of its provider's timing.
type Capabilities struct {
	// Mint: Mint makes a key by API. Without it a person makes the key (awaiting-key).
	Mint bool
	// Stamps: the provider keeps our stamp with the key and List shows it. Without it, ownership of a key whose
	// mint was not answered cannot be proven.
	Stamps bool
	// List: List works.
	List bool
	// Disable: Disable and Enable work; a disabled key is refused, and works again when enabled.
	Disable bool
	// Delete: Delete works. Without it a person revokes (awaiting-revocation).
	Delete bool
	// Usage: Usage works.
	Usage bool
	// Limit is how many keys an account can hold, disabled ones included; 0 if none is known.
	Limit int

	// RequestTimeout bounds one request of this adapter.
	RequestTimeout time.Duration
	// ListLag is how long a new key may be missing from List, and a deleted one still be in it.
	ListLag time.Duration
	// Propagation is how long a good new key may be refused.
	Propagation time.Duration
	// RevocationLag is how long a revoked key may still be accepted.
	RevocationLag time.Duration
}

// Key is one key as the provider lists it. It holds no key material.
type Key struct {
	ID string
	// Stamp is the mark that we gave it; empty if it carries none or another one.
	Stamp     string
	CreatedAt time.Time
	// ExpiresAt is zero if the key does not expire.
	ExpiresAt time.Time
	Disabled  bool
}

// Minted is a new key.
type Minted struct {
	ID    string
	Value secret.Value
}

// Parsed is what a value says about itself, without asking anybody.
type Parsed struct {
	// Value is the value in the form that is stored: white space and quotes of a paste are gone, fields that
	// an attacker could have set (token_uri) are rebuilt.
	Value secret.Value
	// KeyID is the provider's id of the key; empty if the value does not say.
	KeyID string
	// Account is the account that the value belongs to; empty if the value does not say.
	Account string
	// Shown is how the provider's own console lists the key, where a person has to find it there and the console shows
	// a part of the value, at most its last four characters; else empty. It goes where people read it
	// (docs/security.md says what it gives away).
	Shown string
}

// Proof is a provider's answer to "do you accept this value?".
type Proof struct {
	// Accepted: the provider authenticated the value. A value that is authenticated but not allowed to do what
	// the probe tried is accepted: a 403 is not a bad key.
	Accepted bool
	// Code is the provider's code of a refusal.
	Code string
	// Account is where the provider says that the key belongs; empty if it does not say.
	Account string
}

// Usage is a provider's answer to "when was this key last used?".
type Usage struct {
	// LastUsed is zero if the provider has seen no use.
	LastUsed time.Time
	// Freshness is how old the newest use may be before the provider shows it.
	Freshness time.Duration
}

// Provider issues and revokes the keys of accounts. account is what rekey.yaml says under `account`.
//
// All methods are safe for concurrent use, bound every request by Capabilities.RequestTimeout and the context,
// and return *fault.Error. Disable and Enable of a key that is already in that state succeed. They, and Delete, of an id
// that the provider does not find are NotFound: whether that key is gone, or so new that the provider does not show it
// yet, only the caller knows, who knows how old it is. A provider may also refuse such an id (Rejected, AccessDenied),
// in the same words as for other reasons; then List decides.
type Provider interface {
	// Capabilities returns what the provider can do and how late it is. It asks nobody, and is always the same.
	Capabilities() Capabilities
	// Parse reads a value without asking anybody. A value that cannot be a key of this provider is Rejected,
	// with advice that does not repeat it.
	Parse(v secret.Value) (Parsed, error)
	// Probe asks the provider, with the value itself, whether it is accepted for account. An error means that
	// the question could not be answered, not that the value is bad.
	Probe(ctx context.Context, account string, v secret.Value) (Proof, error)
	// List returns every key of the account that people and we made (not the provider's own).
	List(ctx context.Context, account string) ([]Key, error)
	// Mint makes a key, marked with stamp where the provider keeps stamps. Who makes the key pair, the provider or
	// the adapter, is the adapter's own business. Mint sends at most one request. On an Unsettled error the key may
	// exist, now or later, and its value is lost either way: with Stamps it is found in List by its stamp, without
	// them it is listed as a key that was not there before.
	Mint(ctx context.Context, account, stamp string) (Minted, error)
	// Disable makes the provider refuse the key until Enable.
	Disable(ctx context.Context, account, keyID string) error
	// Enable takes Disable back.
	Enable(ctx context.Context, account, keyID string) error
	// Delete revokes the key for good.
	Delete(ctx context.Context, account, keyID string) error
	// Usage returns when the key was last used, from metadata: it does not use the key.
	Usage(ctx context.Context, account, keyID string) (Usage, error)
	// Console is where a person manages the account's keys.
	Console(account string) string
}

// Unsupported is embedded by adapters for the methods that their provider has no API for. Every method
// returns a Rejected fault.
type Unsupported struct{ Name string }

func (u Unsupported) no(doing string) error {
	return fault.New(fault.Rejected, "unsupported", doing+" at "+u.Name+", which has no API for it")
}

// List is not supported.
func (u Unsupported) List(context.Context, string) ([]Key, error) { return nil, u.no("list keys") }

// Mint is not supported.
func (u Unsupported) Mint(context.Context, string, string) (Minted, error) {
	return Minted{}, u.no("mint a key")
}

// Disable is not supported.
func (u Unsupported) Disable(context.Context, string, string) error { return u.no("disable a key") }

// Enable is not supported.
func (u Unsupported) Enable(context.Context, string, string) error { return u.no("enable a key") }

// Delete is not supported.
func (u Unsupported) Delete(context.Context, string, string) error { return u.no("delete a key") }

// Usage is not supported.
func (u Unsupported) Usage(context.Context, string, string) (Usage, error) {
	return Usage{}, u.no("read a key's last use")
}
