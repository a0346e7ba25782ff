// Package activities is what the workflows ask of the outside world: thin steps over provider and store, each
// safe to run twice. Plaintext lives only inside them (I5); what they take and return names keys by id,
// fingerprint and version number.
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

// Target says which rotation of which key an activity works for.
type Target struct {
	Key      rotation.Key `json:"key"`
	Rotation string       `json:"rotation"`
}

// Ref names one value, wherever it is stored.
type Ref struct {
	// KeyID is the provider's id; empty if the provider has none that we can see.
	KeyID       string `json:"keyId,omitempty"`
	Fingerprint string `json:"fingerprint"`
	// Stamp is set if rekey minted the key.
	Stamp string `json:"stamp,omitempty"`
	// Numbers are the version numbers, one for each of the key's stores; empty where the value is not stored.
	Numbers []string `json:"numbers"`
	// Shown is how the provider's console lists the key, AddedAt when its value came into a store: a person finds it by
	// them where the provider gives it no id. Empty and zero if not known; nothing is decided by them.
	Shown   string    `json:"shown,omitempty"`
	AddedAt time.Time `json:"addedAt,omitzero"`

	rotation string // that staged it
}

// Name is what people call the value: the provider's id if there is one, else the fingerprint.
func (r Ref) Name() string {
	if r.KeyID != "" {
		return r.KeyID
	}
	return r.Fingerprint
}

// is reports whether both name the same key.
func (r Ref) is(o Ref) bool {
	return r.KeyID != "" && r.KeyID == o.KeyID || r.Fingerprint != "" && r.Fingerprint == o.Fingerprint
}

// job is a target whose names are resolved.
type job struct {
	*Environment
	Target
	provider provider.Provider
	caps     provider.Capabilities
	stores   []store.Store
	// aside are versions that this activity has taken out of a record, and whose age still counts.
	aside []store.Version
}

func (e *Environment) job(t Target) (*job, error) {
	if err := e.Allow(t.Key); err != nil {
		return nil, err
	}
	j := &job{Environment: e, Target: t, provider: e.Providers[t.Key.Provider]}
	if j.provider == nil {
		return nil, e.unknown(t.Key, "provider", t.Key.Provider)
	}
	for _, l := range t.Key.Stores {
		s := e.Stores[l.Store]
		if s == nil {
			return nil, e.unknown(t.Key, "store", l.Store)
		}
		j.stores = append(j.stores, s)
	}
	if len(j.stores) == 0 {
		return nil, fault.New(fault.Rejected, "no_store", "rotate "+t.Key.Name).WithAdvice("Give the key at least one store in rekey.yaml.")
	}
	j.caps = j.provider.Capabilities()
	return j, nil
}

func (e *Environment) unknown(k rotation.Key, what, name string) error {
	return fault.New(fault.Rejected, "not_configured", fmt.Sprintf("rotate %s: %s %q", k.Name, what, name)).
		WithAdvice("This worker's rekey.yaml has no %s of that name. Add it, or start the worker with the right file.", what)
}

func (e *Environment) now() time.Time { return e.Now().UTC() }

// horizon is the longest time an abandoned request can still take effect (a proxy or the provider may hold it
// for as long again as we waited), plus how far the provider's list may lag.
func (j *job) horizon() time.Duration { return 2*j.caps.RequestTimeout + j.caps.ListLag }

func (j *job) stamp(attempt int) rotation.Stamp {
	return rotation.Stamp{Install: j.Install, Key: j.Key.Name, Rotation: j.Rotation, Attempt: attempt}
}

func (j *job) audit(ctx context.Context, what string, attrs ...any) {
	j.Audit.InfoContext(ctx, what, append([]any{"key", j.Key.Name, "rotation", j.Rotation, "provider", j.Key.Provider, "account", j.Key.Account}, attrs...)...)
}

func (j *job) path(i int) string { return j.Key.Stores[i].Path }

// load reads the record of the i-th store and fills in what is not known about the versions under a stage
// by reading their values: somebody may have changed the store behind our back.
func (j *job) load(ctx context.Context, i int) (store.Snapshot, error) {
	s, err := j.stores[i].Load(ctx, j.path(i))
	if err != nil {
		return s, err
	}
	for _, v := range []*store.Version{s.Pending, s.Current, s.Previous} {
		if v == nil || v.Fingerprint != "" {
			continue
		}
		value, err := j.stores[i].Read(ctx, j.path(i), v.Number)
		if err != nil {
			return s, err
		}
		v.Fingerprint = value.Fingerprint()
		if p, err := j.provider.Parse(value); err == nil {
			v.KeyID = p.KeyID
		}
	}
	return s, nil
}

func (j *job) loadAll(ctx context.Context) ([]store.Snapshot, error) {
	all := make([]store.Snapshot, len(j.stores))
	for i := range j.stores {
		var err error
		if all[i], err = j.load(ctx, i); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// edit changes the record of the i-th store, reading it again when somebody else was faster. change reports
// whether there is anything to save.
func (j *job) edit(ctx context.Context, i int, change func(*store.Snapshot) (bool, error)) (store.Snapshot, error) {
	s, err := j.load(ctx, i)
	if err != nil {
		return s, err
	}
	return j.editFrom(ctx, i, s, change)
}

// editFrom is edit for a record that was just read.
func (j *job) editFrom(ctx context.Context, i int, s store.Snapshot, change func(*store.Snapshot) (bool, error)) (store.Snapshot, error) {
	for try := 0; ; try++ {
		changed, err := change(&s)
		if err != nil || !changed {
			return s, err
		}
		saved, err := j.stores[i].Save(ctx, j.path(i), s)
		if err == nil || !store.IsConflict(err) || try == 4 {
			return saved, err
		}
		if s, err = j.load(ctx, i); err != nil {
			return s, err
		}
	}
}

// value reads the value of r from the first store that still has it, and checks that it is that value.
func (j *job) value(ctx context.Context, r Ref) (secret.Value, bool, error) {
	var last error
	for i, number := range r.Numbers {
		if number == "" {
			continue
		}
		v, err := j.stores[i].Read(ctx, j.path(i), number)
		switch {
		case err == nil && v.Fingerprint() == r.Fingerprint:
			return v, true, nil
		case err != nil && !fault.Is(err, fault.NotFound):
			last = err
		}
	}
	return secret.Value{}, false, last
}

// staged reports whether a record names r under any of the given stages.
func staged(r Ref, stages ...*store.Version) bool {
	return slices.ContainsFunc(stages, func(v *store.Version) bool {
		return v != nil && r.is(Ref{KeyID: v.KeyID, Fingerprint: v.Fingerprint})
	})
}

func (j *job) refOf(v store.Version, i int) Ref {
	r := Ref{KeyID: v.KeyID, Fingerprint: v.Fingerprint, Stamp: v.Stamp, Numbers: make([]string, len(j.stores)), rotation: v.Rotation}
	r.Numbers[i] = v.Number
	return r
}

// recognisable fills in by what a person finds the keys in the provider's console, where they have no id. It is help, not
// proof: a store that does not answer costs a person the hint, and not the rotation its next step.
func (j *job) recognisable(ctx context.Context, refs ...*Ref) {
	for _, r := range refs {
		if r == nil || r.KeyID != "" || r.Shown != "" {
			continue
		}
		v, found, err := j.value(ctx, *r)
		if err != nil || !found {
			continue
		}
		if p, err := j.provider.Parse(v); err == nil {
			r.Shown = p.Shown
		}
		for i, number := range r.Numbers {
			dated, ok := j.stores[i].(store.Dated)
			if !ok || number == "" {
				continue
			}
			if at, err := dated.AddedAt(ctx, j.path(i), number); err == nil && (r.AddedAt.IsZero() || at.Before(r.AddedAt)) {
				r.AddedAt = at.UTC()
			}
		}
	}
}

// merge adds r to the set, or its version numbers to the member that names the same key.
func merge(set []Ref, r Ref) []Ref {
	for k, have := range set {
		if !have.is(r) {
			continue
		}
		numbers := slices.Clone(have.Numbers)
		for i, n := range r.Numbers {
			if numbers[i] == "" {
				numbers[i] = n
			}
		}
		set[k].Numbers = numbers
		return set
	}
	return append(set, r)
}
