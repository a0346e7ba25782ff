package activities

import (
	"context"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// Whoever reaches Temporal can schedule an activity with any input. So what changes anything believes the stores' records,
// the values that the stores return, and the provider's list; from its input it takes which key and which rotation, and what
// it names there must be found here.

// NotARotation is the code of the fault that refuses a change which the key's own rotation did not ask for.
const NotARotation = "not_a_rotation"

// changing is job for an activity that changes something: it is refused (Rejected) outside the workflow RotateKey of the
// key. Who can start workflows can start one that looks like it; so nothing rests on this alone, but a standalone activity
// and a stray workflow get a clear answer, and leave a record.
func (e *Environment) changing(ctx context.Context, t Target) (*job, error) {
	j, err := e.job(t)
	if err != nil || !activity.IsActivity(ctx) {
		return j, err
	}
	info := activity.GetInfo(ctx)
	if info.WorkflowType != nil && info.WorkflowType.Name == RotateKeyType && info.WorkflowExecution.ID == WorkflowID(t.Key.Name) {
		return j, nil
	}
	j.audit(ctx, "refused outside a rotation", "activity", info.ActivityType.Name, "workflow", info.WorkflowExecution.ID)
	return nil, fault.New(fault.Rejected, NotARotation, "change the key "+t.Key.Name).
		WithAdvice("Nothing was changed. This activity is only for the workflow %s of type %s.", WorkflowID(t.Key.Name), RotateKeyType)
}

// trace is what the stores know of a value that an input names.
type trace struct {
	Ref
	// pendingHere: a record names it as pending, put there by this rotation; wasRead: as current or previous; isDuty: as a key
	// to revoke, since then.
	pendingHere, wasRead, isDuty bool
	since                        time.Time
	// contradicts: the input has the value of one key and the id of another.
	contradicts bool
}

// trace finds what an input names: in a record, under a stage or as a duty, or as the value of a version that a store still
// returns. Its id at the provider is what the record or the value says; one that the input has must be the same. found is
// false where nobody knows the value.
func (j *job) trace(ctx context.Context, r Ref, records []store.Snapshot) (t trace, found bool, err error) {
	t.Ref = Ref{Fingerprint: r.Fingerprint, Numbers: make([]string, len(j.stores))}
	names := func(id, fingerprint string) bool {
		if r.Fingerprint != "" && fingerprint != "" {
			return r.Fingerprint == fingerprint
		}
		return r.KeyID != "" && r.KeyID == id
	}
	adopt := func(i int, id, fingerprint, stamp, rotation, number string) {
		found = true
		if t.KeyID == "" {
			t.KeyID = id
		}
		if t.Fingerprint == "" {
			t.Fingerprint = fingerprint
		}
		if t.Stamp == "" {
			t.Stamp = stamp
		}
		if t.rotation == "" {
			t.rotation = rotation
		}
		if t.Numbers[i] == "" {
			t.Numbers[i] = number
		}
	}
	for i, s := range records {
		for _, v := range s.Stages() {
			if names(v.KeyID, v.Fingerprint) {
				adopt(i, v.KeyID, v.Fingerprint, v.Stamp, v.Rotation, v.Number)
			}
		}
		for _, v := range []*store.Version{s.Current, s.Previous} {
			t.wasRead = t.wasRead || v != nil && names(v.KeyID, v.Fingerprint)
		}
		if p := s.Pending; p != nil && names(p.KeyID, p.Fingerprint) && p.Rotation == j.Rotation && j.Rotation != "" {
			t.pendingHere = true
		}
		for _, d := range s.Duties {
			if names(d.KeyID, d.Fingerprint) {
				adopt(i, d.KeyID, d.Fingerprint, "", "", d.Version)
				t.isDuty = true
				if d.Since.After(t.since) {
					t.since = d.Since
				}
			}
		}
	}
	if err := j.traceValue(ctx, r, &t, &found); err != nil {
		return t, false, err
	}
	if found && r.KeyID != "" && t.KeyID != "" && r.KeyID != t.KeyID {
		t.contradicts = true // the value of one key, and the id of another
		return t, false, nil
	}
	t.Shown, t.AddedAt = r.Shown, r.AddedAt
	return t, found, nil
}

// traceValue looks at the versions that the input names: what holds the value there is the value, whatever a record says.
func (j *job) traceValue(ctx context.Context, r Ref, t *trace, found *bool) error {
	for i, number := range r.Numbers {
		if i >= len(j.stores) || number == "" || t.Numbers[i] != "" && t.KeyID != "" {
			continue
		}
		v, err := j.stores[i].Read(ctx, j.path(i), number)
		if fault.Is(err, fault.NotFound) {
			continue
		} else if err != nil {
			return err
		}
		if v.Fingerprint() != t.Fingerprint {
			continue
		}
		*found = true
		if t.Numbers[i] == "" {
			t.Numbers[i] = number
		}
		if p, err := j.provider.Parse(v); err == nil && t.KeyID == "" {
			t.KeyID = p.KeyID
		}
	}
	return nil
}

// traceAll is trace for several; it refuses (Rejected, code "unknown_value") if one of them is unknown.
func (j *job) traceAll(ctx context.Context, refs []Ref, records []store.Snapshot) ([]trace, error) {
	var all []trace
	for _, r := range refs {
		t, found, err := j.trace(ctx, r, records)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, j.unknownValue(ctx, r)
		}
		all = append(all, t)
	}
	return all, nil
}

// traceDuties sorts the keys that are to be revoked later: those that the stores know, and those that nobody knows. An
// input that names the value of one key and the id of another is refused.
func (j *job) traceDuties(ctx context.Context, refs []Ref, records []store.Snapshot) (known, unknown []Ref, err error) {
	for _, r := range refs {
		t, found, err := j.trace(ctx, r, records)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case found:
			known = append(known, t.Ref)
		case t.contradicts:
			return nil, nil, j.unknownValue(ctx, r)
		default:
			unknown = append(unknown, r)
		}
	}
	return known, unknown, nil
}

// UnknownValue is the code of the fault that refuses what only an input names.
const UnknownValue = "unknown_value"

func (j *job) unknownValue(ctx context.Context, r Ref) error {
	j.audit(ctx, "refused an unknown value", "key_id", r.KeyID, "fingerprint", r.Fingerprint)
	return fault.New(fault.Rejected, UnknownValue, "change "+r.Name()+" of "+j.Key.Name).
		WithAdvice("Nothing was changed. No store names it or has its value, so it is not a value of this key.")
}

// proven returns an error unless the provider accepts the value, which no application may be given otherwise.
func (j *job) proven(ctx context.Context, r Ref) error {
	v, found, err := j.value(ctx, r)
	if err != nil {
		return err
	}
	if !found {
		return j.gone(r)
	}
	proof, err := j.provider.Probe(ctx, j.Key.Account, v)
	if err != nil {
		return err
	}
	if !proof.Accepted {
		return fault.New(fault.Rejected, "refused", "make "+r.Name()+" of "+j.Key.Name+" current").
			WithAdvice("%s refuses it (%s).", j.Key.Provider, proof.Code)
	}
	return nil
}

// stillLive reports whether a key that counts as revoked still passes. Where nobody has its value any more and the provider
// has no list, nobody can know; then it is not.
func (j *job) stillLive(ctx context.Context, r Ref) (bool, error) {
	v, found, err := j.value(ctx, r)
	if err != nil {
		return false, err
	}
	if found {
		proof, err := j.provider.Probe(ctx, j.Key.Account, v)
		return proof.Accepted, err
	}
	live, known, err := j.listed(ctx, r)
	return live && known, err
}

// maxApprovalAge is how long operators' signatures count.
const maxApprovalAge = 30 * 24 * time.Hour

// expired says why an approval does not count any more; empty if it does. It must be younger than the promise to revoke
// each key: what was signed for an earlier one is not signed for this.
func (j *job) expired(q rotation.Question, keys []trace) string {
	if j.now().Sub(q.Asked) > maxApprovalAge {
		return "what was signed is older than 30 days."
	}
	// The clocks of workers and server differ.
	const skew = 5 * time.Minute
	if slices.ContainsFunc(keys, func(t trace) bool { return t.isDuty && q.Asked.Add(skew).Before(t.since) }) {
		return "what was signed is older than the promise to revoke that key: a rotation has come back to it since."
	}
	return ""
}
