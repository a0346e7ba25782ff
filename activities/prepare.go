package activities

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// PrepareInput asks whether, and how, a rotation can go on.
type PrepareInput struct {
	Target
	Reason rotation.Reason `json:"reason"`
	// StartedAt is when the rotation began: a claim that is newer belongs to somebody who is at work now.
	StartedAt time.Time `json:"startedAt"`
	// ApprovedQuestions are the questions that a person has approved: an approval counts for the kind of question and the ids that it names.
	ApprovedQuestions []rotation.Ask `json:"approvedQuestions,omitempty"`
	// Predecessors are the ids of the rotations of the same workflow that this one follows: none of them is at work.
	Predecessors []string `json:"predecessors,omitempty"`
	// Revoked are the names of the keys that those have revoked: the provider's list may show them a while longer, and they
	// take up no room.
	Revoked []string `json:"revoked,omitempty"`
	// Leaked is for an emergency and names what leaked, in the ways that Ref.Called takes; none means every value.
	Leaked []string `json:"leaked,omitempty"`
}

// Prepared is what a rotation knows before it changes anything.
type Prepared struct {
	Verdict rotation.Verdict `json:"verdict"`
	// Old are the keys to revoke in the end; the first is the one that applications read now, if there is one.
	Old []Ref `json:"old,omitempty"`
	// Unknown are names that a person gave to what leaked and that fit no value of the key, each a sentence that says
	// what to do.
	Unknown []string `json:"unknown,omitempty"`
	// New is set when there is nothing to mint: the current value, for work "finish".
	New *Ref `json:"new,omitempty"`
	// RotateAfter: the account has no room for another key until what earlier rotations left is revoked, so the work is
	// "finish" (rule "no-room"); the rotation that was wanted has to follow at once.
	RotateAfter bool `json:"rotateAfter,omitempty"`
	// NothingKnown: not one of the names of what leaked fits.
	NothingKnown bool `json:"nothingKnown,omitempty"`
	// StartAnew: a workflow that was reset cannot go on with what it had made, for that has leaked, or is to be revoked
	// because it was rolled back from. Another rotation must follow.
	StartAnew bool `json:"startAnew,omitempty"`
	// Wait, if set, is how long to wait before anything can be decided: a request to take away what applications read may
	// still take effect.
	Wait rotation.Duration `json:"wait,omitempty"`
	// Question, if set, must be approved by a person before the rotation goes on.
	Question *rotation.Ask `json:"question,omitempty"`
	// OldRefused: the provider refuses what applications read, so there is nothing to be careful with.
	OldRefused bool `json:"oldRefused,omitempty"`
	// SupplyByHand and RevokeByHand: the provider has no API for it.
	SupplyByHand bool `json:"supplyByHand,omitempty"`
	RevokeByHand bool `json:"revokeByHand,omitempty"`
	// CanDisable: a revoke can be undone until the key is deleted.
	CanDisable bool `json:"canDisable,omitempty"`
	// Propagation is how long a good new key may be refused, RevocationLag how long a revoked one may pass.
	Propagation   rotation.Duration `json:"propagation"`
	RevocationLag rotation.Duration `json:"revocationLag"`
	// Horizon is the longest time an abandoned mint can still take effect and be missing from the list.
	Horizon rotation.Duration `json:"horizon"`
	// ReadLag is how long applications may read the former value after a promote.
	ReadLag rotation.Duration `json:"readLag"`
	// Signers are the operators of whom two sign every approval; empty where the key is not under four eyes.
	Signers []rotation.Operator `json:"signers,omitempty"`
	// ProviderConsole and StoreConsole are links for a person.
	ProviderConsole string `json:"providerConsole,omitempty"`
	StoreConsole    string `json:"storeConsole,omitempty"`
}

// The kinds of question that activities put to a person.
const (
	// ForeignClaim: another installation, or a newer rotation, has the claim.
	ForeignClaim = "foreign-claim"
	// UnprovenKeys: nobody can prove who made the keys that the question names.
	UnprovenKeys = "unproven-keys"
	// ChangedCurrent: somebody made a value current that the rotation does not know.
	ChangedCurrent = "changed-current"
)

// Prepare looks at provider and stores and changes no key: is the key due, what is the old set, can every store
// be read and written, is there room for another key, who else has a claim.
func (e *Environment) Prepare(ctx context.Context, in PrepareInput) (Prepared, error) {
	j, err := e.job(in.Target)
	if err != nil {
		return Prepared{}, err
	}
	if step := time.Duration(in.Key.Policy.StepTimeout); j.caps.RequestTimeout >= step {
		return Prepared{}, fault.New(fault.Rejected, "timeouts", "rotate "+in.Key.Name).WithAdvice(
			"A request to the provider may take %s, a step only %s: a step must outlive its requests. Raise step_timeout of the policy.", j.caps.RequestTimeout, step)
	}
	signers, err := e.signers(in.Key)
	if err != nil && in.Reason != rotation.Emergency {
		return Prepared{}, err
	}
	out := Prepared{
		Signers:      signers,
		SupplyByHand: !j.caps.Mint, RevokeByHand: !j.caps.Delete, CanDisable: j.caps.Disable && j.caps.Delete,
		Propagation: rotation.Duration(j.caps.Propagation), RevocationLag: rotation.Duration(j.caps.RevocationLag),
		Horizon: rotation.Duration(j.horizon()), ProviderConsole: j.provider.Console(in.Key.Account), StoreConsole: j.stores[0].Console(j.path(0)),
	}
	for i, s := range j.stores {
		if err := s.Check(ctx, j.path(i)); err != nil {
			return out, err
		}
		out.ReadLag = max(out.ReadLag, rotation.Duration(s.Capabilities().ReadLag))
	}
	look, err := j.look(ctx, in.Reason)
	if err != nil {
		return out, err
	}
	if out.Wait = j.unsettledCurrent(in, look); out.Wait > 0 {
		if err := j.redateWhileLooking(ctx, look.records); err != nil {
			return Prepared{}, err
		}
		return out, nil
	}
	look.keys = slices.DeleteFunc(look.keys, func(k providerKey) bool { return slices.Contains(in.Revoked, k.ID) })
	if q := j.foreignClaim(look.records, in.StartedAt, in.Predecessors); q != nil && !q.In(in.ApprovedQuestions) {
		out.Question = q
	}
	out.OldRefused, out.StartAnew = look.facts.CurrentRefused, j.rolledBackFrom(look.records)
	if in.Reason == rotation.Emergency {
		if err := j.emergency(ctx, in, look, &out); err != nil {
			return out, err
		}
	} else {
		out.Verdict = rotation.Due(look.facts, in.Key.Policy)
		switch out.Verdict.Work {
		case rotation.Rotate:
			out.Old = look.old(j.Rotation)
		case rotation.Finish:
			out.New, out.Old = &look.currents[0], look.duties
		}
	}
	if out.Verdict.Work == rotation.Rotate {
		if err := j.makeRoom(look, &out); err != nil {
			return out, err
		}
	}
	for i := range out.Old {
		j.recognisable(ctx, &out.Old[i])
	}
	j.recognisable(ctx, out.New)
	return out, nil
}

// unsettledCurrent is how long to wait until it is certain whether what applications read is taken away. An emergency that
// replaces it anyway does not wait: whatever comes of that request, nothing depends on it.
func (j *job) unsettledCurrent(in PrepareInput, l look) rotation.Duration {
	var wait rotation.Duration
	for _, r := range l.currents {
		leaked := in.Reason == rotation.Emergency && (len(in.Leaked) == 0 || slices.ContainsFunc(in.Leaked, func(name string) bool { return r.Called(name, j.Key.Stores) }))
		if rest := j.pendingRevoke(r, l.records); rest > 0 && !leaked {
			wait = max(wait, waitFor(rest))
		}
	}
	return wait
}

// rolledBackFrom reports whether the records name what this rotation made as a key to revoke: it was rolling back when it
// was reset, or its workflow was. Under its id that key would be found as staged, and be published.
func (j *job) rolledBackFrom(records []store.Snapshot) bool {
	own := func(v store.Version) bool {
		r := Ref{KeyID: v.KeyID, Fingerprint: v.Fingerprint}
		everywhere := !slices.ContainsFunc(records, func(s store.Snapshot) bool { return !staged(r, s.Current) })
		return j.Rotation != "" && v.Rotation == j.Rotation && isDuty(r, records) && !everywhere
	}
	return slices.ContainsFunc(records, func(s store.Snapshot) bool { return slices.ContainsFunc(s.Stages(), own) })
}

// look is what stores and provider say about a key.
type look struct {
	records []store.Snapshot
	// keys is the provider's list; nil if it has none.
	keys []providerKey
	// currents are the current values, duties the keys that earlier rotations left to be revoked.
	currents, duties []Ref
	facts            rotation.Facts
	// unknown are the names of what leaked that fit none of the key's values, nothingKnown: all of them.
	unknown      []string
	nothingKnown bool
}

// look reads every store and asks the provider. It changes nothing.
func (j *job) look(ctx context.Context, reason rotation.Reason) (look, error) {
	l := look{facts: rotation.Facts{Now: j.now(), Reason: reason}}
	var err error
	if l.records, err = j.loadAll(ctx); err != nil {
		return l, err
	}
	l.currents, l.duties = j.currentsAndDuties(l.records)
	l.facts.HasCurrent, l.facts.Duties = len(l.currents) > 0, len(l.duties)
	l.facts.StoresDisagree = len(l.currents) > 1
	var current *store.Version
	for i, r := range l.records {
		switch {
		case r.Current == nil:
			// A store that was added to the key has to get a value, too.
			l.facts.StoresDisagree = l.facts.StoresDisagree || l.facts.HasCurrent
		case current == nil:
			current = r.Current
			l.facts.BornAt = current.CurrentSince
			if l.facts.CurrentRefused, err = j.refused(ctx, j.refOf(*current, i)); err != nil {
				return l, err
			}
		}
	}
	if !j.caps.List {
		return l, nil
	}
	if l.keys, err = j.provider.List(ctx, j.Key.Account); err != nil {
		return l, err
	}
	for _, k := range l.keys {
		if current != nil && k.ID == current.KeyID {
			if !k.CreatedAt.IsZero() {
				l.facts.BornAt = k.CreatedAt
			}
			l.facts.ExpiresAt = k.ExpiresAt
		}
	}
	return l, nil
}

// old are the keys that a rotation replaces. After a reset the current value can be what this very rotation promoted.
func (l look) old(id string) []Ref {
	return append(slices.DeleteFunc(slices.Clone(l.currents), func(r Ref) bool { return id != "" && r.rotation == id }), l.duties...)
}

// foreignClaim says why a person has to agree before a rotation takes the claim. One of a predecessor may look newer than the
// rotation: the clocks of workers and server differ.
func (j *job) foreignClaim(records []store.Snapshot, startedAt time.Time, predecessors []string) *rotation.Ask {
	for i, r := range records {
		where := j.Key.Stores[i]
		if r.Install != "" && r.Install != j.Install {
			return &rotation.Ask{Kind: ForeignClaim, About: []string{where.String(), r.Install}, Text: fmt.Sprintf("%s is kept by another rekey installation (%s). Approve only if that one no longer runs.", where, r.Install)}
		}
		if c := r.Claim; c != nil && c.Rotation != j.Rotation && !slices.Contains(predecessors, c.Rotation) && c.At.After(startedAt) {
			return &rotation.Ask{
				Kind: ForeignClaim, About: []string{where.String(), c.Rotation},
				Text: fmt.Sprintf("Rotation %s claimed %s at %s, after this one began. Approve only if it no longer runs.", c.Rotation, where, c.At.Format(time.RFC3339)),
			}
		}
	}
	return nil
}

// currentsAndDuties returns the different values that are current (one, unless stores disagree), and the keys that
// earlier rotations have promised to revoke and that are not current, the latest promise first: that one is about what
// applications read last.
func (j *job) currentsAndDuties(records []store.Snapshot) (currents, duties []Ref) {
	for i, r := range records {
		if r.Current != nil {
			currents = merge(currents, j.refOf(*r.Current, i))
		}
	}
	for i, r := range records {
		byAge := slices.SortedStableFunc(slices.Values(r.Duties), func(a, b store.Duty) int { return b.Since.Compare(a.Since) })
		for _, d := range byAge {
			ref := Ref{KeyID: d.KeyID, Fingerprint: d.Fingerprint, Numbers: make([]string, len(j.stores))}
			ref.Numbers[i] = d.Version
			if !slices.ContainsFunc(currents, ref.is) {
				duties = merge(duties, ref)
			}
		}
	}
	return currents, duties
}

// refused asks the provider about a value that applications use anyway.
func (j *job) refused(ctx context.Context, r Ref) (bool, error) {
	v, found, err := j.value(ctx, r)
	if err != nil || !found {
		return false, err
	}
	proof, err := j.provider.Probe(ctx, j.Key.Account, v)
	if err != nil {
		return false, err
	}
	return !proof.Accepted, nil
}
