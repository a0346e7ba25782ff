package activities

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// AdoptInput says that a person has put the new key into the first store.
type AdoptInput struct {
	Target
	// Version is the number that the person named; empty means the newest that is under no other stage.
	Version string `json:"version,omitempty"`
	// Fingerprint is what the version holds, by whoever supplied it; empty if they did not say.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Old are the keys that the new one replaces.
	Old []Ref `json:"old,omitempty"`
	// StartedAt is when the rotation began: a claim that is newer belongs to somebody who is at work now.
	StartedAt time.Time `json:"startedAt"`
	// ApprovedQuestions are the questions that a person has approved: an approval counts for the kind of question and the ids that it names.
	ApprovedQuestions []rotation.Ask `json:"approvedQuestions,omitempty"`
	// Predecessors: see PrepareInput.
	Predecessors []string `json:"predecessors,omitempty"`
	// LeakedFingerprints are fingerprints of keys that were sent in messages, which Temporal keeps: they count as leaked.
	LeakedFingerprints []string `json:"leakedFingerprints,omitempty"`
}

// Adopted is the supplied key as pending version, or why it cannot be used.
type Adopted struct {
	New *Ref `json:"new,omitempty"`
	// Question, if set, must be approved by a person; ask again with it among ApprovedQuestions.
	Question *rotation.Ask `json:"question,omitempty"`
	// Unusable says what is wrong with the key, and what a person has to supply instead.
	Unusable string `json:"unusable,omitempty"`
	// Stays is the number of a version that holds a key that cannot be used.
	Stays string `json:"stays,omitempty"`
}

// Adopt checks a version that a person supplied and makes it this rotation's pending version. A value that cannot
// be used stays where it is, and Unusable says why.
func (s *Steps) Adopt(ctx context.Context, in AdoptInput) (Adopted, error) {
	j, err := s.changing(ctx, in.Target)
	if err != nil {
		return Adopted{}, err
	}
	snap, err := j.load(ctx, 0)
	if err != nil {
		return Adopted{}, err
	}
	if q := j.foreignClaim([]store.Snapshot{snap}, in.StartedAt, in.Predecessors); q != nil && !q.In(in.ApprovedQuestions) {
		return Adopted{Question: q}, nil
	}
	if c := snap.Current; c != nil && c.Rotation != "" && c.Rotation == j.Rotation {
		return j.adoptedBefore(ctx, *c, in)
	}
	number, unusable, err := j.supplied(ctx, snap, in.Version)
	if err != nil || unusable != "" {
		return Adopted{Unusable: unusable}, err
	}
	raw, err := j.stores[0].Read(ctx, j.path(0), number)
	if fault.Is(err, fault.NotFound) && snap.Pending != nil && snap.Pending.Rotation == j.Rotation {
		if in.Fingerprint != "" && in.Fingerprint != snap.Pending.Fingerprint {
			return Adopted{Unusable: fmt.Sprintf("%s has no readable version %s: the value %s was put into another store, or under another path.", j.Key.Stores[0], number, in.Fingerprint)}, nil
		}
		// An earlier try of this activity stored a clean copy and destroyed what it was made from.
		return j.adopted(ctx, *snap.Pending), nil
	} else if fault.Is(err, fault.NotFound) {
		return Adopted{Unusable: fmt.Sprintf("%s has no readable version %s.", j.Key.Stores[0], number)}, nil
	} else if err != nil {
		return Adopted{}, err
	}
	if in.Fingerprint != "" && !j.holds(raw, in.Fingerprint) {
		return Adopted{Unusable: fmt.Sprintf("Version %s of %s holds the value %s, and %s was supplied: it was put into another store, or under another path. Compare rekey.yaml where you supplied it with the worker's.",
			number, j.Key.Stores[0], raw.Fingerprint(), in.Fingerprint)}, nil
	}
	parsed, unusable, err := j.checkSupplied(ctx, raw, in.Old)
	if err == nil && unusable == "" && slices.Contains(in.LeakedFingerprints, parsed.Value.Fingerprint()) {
		unusable = "This key was sent in a message, and Temporal keeps messages, so it counts as leaked. Delete it and make another at " + j.provider.Console(j.Key.Account) + "."
	}
	if err != nil || unusable != "" {
		out := Adopted{Unusable: unusable, Stays: number}
		if replaces(in.Old, parsed) {
			// Nobody must be asked to delete it: applications may read it to the end.
			out.Stays = ""
		}
		return out, err
	}
	v := store.Version{Number: number, KeyID: parsed.KeyID, Rotation: j.Rotation, Fingerprint: parsed.Value.Fingerprint(), StagedAt: j.now()}
	if snap.Pending != nil && snap.Pending.Rotation == j.Rotation && snap.Pending.Fingerprint == v.Fingerprint {
		if number != snap.Pending.Number {
			// The same key once more, or what an earlier try of this activity made a clean copy of.
			_ = j.stores[0].Destroy(ctx, j.path(0), number)
		}
		return j.adopted(ctx, *snap.Pending), nil
	}
	if !parsed.Value.Equal(raw) {
		// What is there has quotes, white space or fields around the key that applications must not read.
		if v.Number, err = j.stores[0].Add(ctx, j.path(0), parsed.Value); err != nil {
			return Adopted{}, err
		}
	}
	if _, err := j.edit(ctx, 0, func(s *store.Snapshot) (bool, error) {
		s.Install, s.Pending = j.Install, &v
		s.Claim = &store.Claim{Install: j.Install, Rotation: j.Rotation, Attempt: 1, At: j.now(), Settled: true}
		return true, nil
	}); err != nil {
		return Adopted{}, err
	}
	if v.Number != number {
		_ = j.stores[0].Destroy(ctx, j.path(0), number)
	}
	j.audit(ctx, "supplied key staged", "key_id", v.KeyID, "fingerprint", v.Fingerprint, "store", j.Key.Stores[0].String(), "version", v.Number)
	return j.adopted(ctx, v), nil
}

// holds reports whether what is in a store is the value with that fingerprint, or that value with quotes around it.
func (j *job) holds(raw secret.Value, fingerprint string) bool {
	parsed, err := j.provider.Parse(raw)
	return raw.Fingerprint() == fingerprint || err == nil && parsed.Value.Fingerprint() == fingerprint
}

// adopted names a version of the first store as the new key, with what a person knows it by.
func (j *job) adopted(ctx context.Context, v store.Version) Adopted {
	ref := j.refOf(v, 0)
	j.recognisable(ctx, &ref)
	return Adopted{New: &ref}
}

// adoptedBefore answers a workflow that was reset to before this step: applications read its own new key already, and
// another one would leave that key to nobody.
func (j *job) adoptedBefore(ctx context.Context, current store.Version, in AdoptInput) (Adopted, error) {
	named := in.Version
	switch {
	case in.Fingerprint != "" && in.Fingerprint != current.Fingerprint:
		return Adopted{Stays: named, Unusable: publishedAlready(current)}, nil
	case named == "" || named == current.Number:
		return j.adopted(ctx, current), nil
	}
	v, err := j.stores[0].Read(ctx, j.path(0), named)
	if fault.Is(err, fault.NotFound) {
		// The version that the promote made it current from.
		return j.adopted(ctx, current), nil
	} else if err != nil {
		return Adopted{}, err
	}
	if parsed, err := j.provider.Parse(v); err == nil && parsed.Value.Fingerprint() == current.Fingerprint {
		return j.adopted(ctx, current), nil
	}
	return Adopted{Stays: named, Unusable: publishedAlready(current)}, nil
}

// publishedAlready says why a rotation that was reset takes no other key.
func publishedAlready(current store.Version) string {
	return fmt.Sprintf(
		"Applications already read the key %s, which this rotation published, so it takes no other one. To go on with that key send the update `key-supplied` without a version; to replace it, let this rotation end and start another.",
		current.Fingerprint)
}

// supplied finds the version that a person means.
func (j *job) supplied(ctx context.Context, s store.Snapshot, named string) (number, unusable string, err error) {
	inUse := func(n string) bool {
		return s.Current != nil && s.Current.Number == n || s.Previous != nil && s.Previous.Number == n
	}
	if named != "" {
		if inUse(named) {
			return "", fmt.Sprintf("Version %s of %s is what applications read now, or read before. Supply a new key: rekey supply %s", named, j.Key.Stores[0], j.Key.Name), nil
		}
		return named, "", nil
	}
	if s.Pending != nil && s.Pending.Rotation == j.Rotation {
		return s.Pending.Number, "", nil
	}
	all, err := j.stores[0].Versions(ctx, j.path(0))
	if err != nil {
		return "", "", err
	}
	if len(all) > 0 && !inUse(all[0]) {
		return all[0], "", nil
	}
	return "", fmt.Sprintf("%s holds no new version. Put the new key there first: rekey supply %s", j.Key.Stores[0], j.Key.Name), nil
}

// checkSupplied reports whether a supplied value can become the new key.
func (j *job) checkSupplied(ctx context.Context, raw secret.Value, old []Ref) (provider.Parsed, string, error) {
	parsed, err := j.provider.Parse(raw)
	if err != nil {
		return parsed, fault.Of(err).Error(), nil
	}
	if replaces(old, parsed) {
		return parsed, "This is the old key. Create another one at " + j.provider.Console(j.Key.Account) + ".", nil
	}
	if parsed.Account != "" && parsed.Account != j.Key.Account {
		return parsed, fmt.Sprintf("This key belongs to %s, wanted is one of %s.", parsed.Account, j.Key.Account), nil
	}
	proof, err := j.provider.Probe(ctx, j.Key.Account, parsed.Value)
	if err != nil {
		return parsed, "", err
	}
	// A refused key may only be too young: verify asks again with patience. Another account stays another account.
	if proof.Accepted && proof.Account != "" && proof.Account != j.Key.Account {
		return parsed, fmt.Sprintf("%s says that this key is not of %s (%s).", j.Key.Provider, j.Key.Account, proof.Account), nil
	}
	return parsed, "", nil
}

// replaces reports whether a supplied value is one of the keys that it should replace.
func replaces(old []Ref, p provider.Parsed) bool {
	return slices.ContainsFunc(old, Ref{KeyID: p.KeyID, Fingerprint: p.Value.Fingerprint()}.is)
}

// StageSupplied puts a key that a person typed into the first store of k as a version that no application reads,
// and returns its number, and the fingerprint of what was stored. It is for the command line: the value never passes
// through Temporal. rotationID is the rotation that waits for it.
func (e *Environment) StageSupplied(ctx context.Context, k rotation.Key, rotationID string, v secret.Value) (number, fingerprint string, err error) {
	j, err := e.job(Target{Key: k, Rotation: rotationID})
	if err != nil {
		return "", "", err
	}
	snap, err := j.load(ctx, 0)
	if err != nil {
		return "", "", err
	}
	var old []Ref
	if snap.Current != nil {
		old = append(old, j.refOf(*snap.Current, 0))
	}
	parsed, unusable, err := j.checkSupplied(ctx, v, old)
	if err != nil {
		return "", "", err
	}
	if unusable != "" {
		return "", "", fault.New(fault.Rejected, "unusable", "supply the new key of "+k.Name).WithAdvice("%s", unusable)
	}
	number, err = j.stores[0].Add(ctx, j.path(0), parsed.Value)
	return number, parsed.Value.Fingerprint(), err
}
