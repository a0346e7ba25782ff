// Package store is what rekey asks of the secret managers that applications read. Each adapter has a package
// of its own below this one and passes the same conformance suite (storetest).
//
// A path holds numbered, immutable versions and one Record that says which of them is pending, current and
// previous. The record changes only by compare-and-set; that is where rekey's promises about crashes rest.
//
// To write one: decide where the record lives (beside the values, where applications do not look), how a value can be there
// without any application reading it, and what compares the revision; map every answer of the secret manager to a class of
// fault, and run storetest.Run against a simulator that speaks the real protocol.
package store

import (
	"context"
	"slices"
	"time"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// Version describes one stored value without holding it.
type Version struct {
	// Number is the store's own number of the version.
	Number string `json:"number"`
	// KeyID is the provider's id of the key; empty if neither value nor provider says.
	KeyID string `json:"keyId,omitempty"`
	// Stamp is set if rekey minted the key.
	Stamp string `json:"stamp,omitempty"`
	// Rotation is the id of the rotation that staged the version; empty if rekey did not.
	Rotation    string    `json:"rotation,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	StagedAt    time.Time `json:"stagedAt,omitzero"`
	// CurrentSince is when the version was promoted; zero for a version found in place.
	CurrentSince time.Time `json:"currentSince,omitzero"`
}

// Claim says which attempt may stage the next pending version.
type Claim struct {
	Install  string    `json:"install"`
	Rotation string    `json:"rotation"`
	Attempt  int       `json:"attempt"`
	At       time.Time `json:"at"`
	// Settled: every request of the rotation's attempts so far was answered, so nothing of theirs can take effect
	// later.
	Settled bool `json:"settled,omitempty"`
	// Before are the ids of the provider's keys just before the attempt's mint; the only evidence of what is
	// ours where the provider keeps no stamps.
	Before []string `json:"before,omitempty"`
}

// Duty is a key that a rotation has promised to revoke. It outlives a terminated rotation: the next one takes
// it over.
type Duty struct {
	KeyID       string `json:"keyId,omitempty"`
	Fingerprint string `json:"fingerprint"`
	// Version is the number of the version that holds the value, in this store.
	Version  string    `json:"version,omitempty"`
	Rotation string    `json:"rotation"`
	Since    time.Time `json:"since"`
}

// Revoke is a request to disable or delete a key that was sent to the provider, and of which it is not known that nothing
// of it can take effect any more. It is written down before it is sent, and outlives a rotation that is terminated or reset.
type Revoke struct {
	KeyID       string    `json:"keyId,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	At          time.Time `json:"at"`
}

// Record is what rekey writes beside the values of a path. It holds no key material.
type Record struct {
	// Install is the rekey installation that keeps this path; empty before its first rotation.
	Install  string   `json:"install,omitempty"`
	Claim    *Claim   `json:"claim,omitempty"`
	Pending  *Version `json:"pending,omitempty"`
	Current  *Version `json:"current,omitempty"`
	Previous *Version `json:"previous,omitempty"`
	Duties   []Duty   `json:"duties,omitempty"`
	Revokes  []Revoke `json:"revokes,omitempty"`
}

// Snapshot is a record as it was read, with the revision that Save and Promote compare.
type Snapshot struct {
	Record
	Revision string
}

// Stages returns the versions that are under any stage.
func (r Record) Stages() []Version {
	var all []Version
	for _, v := range []*Version{r.Pending, r.Current, r.Previous} {
		if v != nil {
			all = append(all, *v)
		}
	}
	return all
}

// Promoted is the record after v became current: the former current is previous, and v is no longer pending
// or previous. Promoting what is current already changes nothing.
func (r Record) Promoted(v Version) Record {
	if r.Current != nil && r.Current.Fingerprint == v.Fingerprint && r.Current.Number == v.Number {
		return r
	}
	if r.Current != nil && r.Current.Fingerprint == "" && r.Current.Number == v.Number {
		// Somebody published v behind rekey's back: it must not become its own predecessor.
		r.Current = r.Previous
	}
	if r.Pending != nil && r.Pending.Fingerprint == v.Fingerprint {
		r.Pending = nil
	}
	r.Previous, r.Current = r.Current, &v
	r.Duties = slices.Clone(r.Duties)
	return r
}

// Capabilities say how a store behaves.
type Capabilities struct {
	// CompareAndSet: Save and Promote refuse a stale revision. Without it the engine waits out ReadLag and reads again.
	CompareAndSet bool
	// ReadLag is how long applications may still read the former current value after Promote.
	ReadLag time.Duration
}

// Conflict is the code of the fault that Save and Promote return for a stale revision.
const Conflict = "conflict"

// IsConflict reports whether err says that the record changed since it was read. Nothing was written: read again
// and decide again.
func IsConflict(err error) bool {
	return fault.Is(err, fault.Unavailable) && fault.Of(err).Code == Conflict
}

// ErrConflict makes the fault of a stale revision.
func ErrConflict(path string) error {
	return fault.New(fault.Unavailable, Conflict, "change "+path+", which somebody else changed in the meantime")
}

// Store keeps the values of paths. path is what rekey.yaml says under `path`.
//
// All methods are safe for concurrent use, also from several processes, and return *fault.Error.
type Store interface {
	// Capabilities returns what the store can do and how late it is. It asks nobody, and is always the same.
	Capabilities() Capabilities
	// Check reports whether path can be read and written, without changing it. The fault's advice says what to
	// create or to grant.
	Check(ctx context.Context, path string) error
	// Load reads the record. A path that rekey never touched returns the version that applications read as
	// Current, with its Number only. If somebody changed the current version behind rekey's back, Current is
	// that version, with its Number only.
	Load(ctx context.Context, path string) (Snapshot, error)
	// Save replaces the record, if the revision still holds; else it returns a conflict (IsConflict). It does
	// not change what applications read: Current must be the one that Load returned.
	Save(ctx context.Context, path string, s Snapshot) (Snapshot, error)
	// Add stores a value where no application reads it and returns the new version's number. It sends at most
	// one request; on an Unsettled error the version may exist.
	Add(ctx context.Context, path string, v secret.Value) (number string, err error)
	// Read returns the value of a version by number; it is read-after-write consistent. A destroyed or unknown
	// version is NotFound.
	Read(ctx context.Context, path, number string) (secret.Value, error)
	// Versions returns the numbers of the versions that can be read, newest first, in whatever stage or none.
	Versions(ctx context.Context, path string) ([]string, error)
	// Promote makes applications read the value of v and saves s.Record.Promoted(v), if the revision still
	// holds. The promoted version may get another number (stores that show applications their newest version):
	// look at Current in what it returns. Repeated, it changes nothing.
	Promote(ctx context.Context, path string, s Snapshot, v Version) (Snapshot, error)
	// Published reads the value as applications do, by name, with whatever lag they see. NotFound if there is none.
	Published(ctx context.Context, path string) (secret.Value, error)
	// Destroy makes a version unreadable for good. It refuses (Rejected) the version that applications read.
	// A version that is gone already is success.
	Destroy(ctx context.Context, path, number string) error
	// Console is where a person looks at the path.
	Console(path string) string
}

// Dated is a store that knows when each version was added.
type Dated interface {
	// AddedAt says when a version was added; NotFound if there is no such version. For people: no decision rests on it.
	AddedAt(ctx context.Context, path, number string) (time.Time, error)
}
