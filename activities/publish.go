package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// StoreInput asks to bring the pending value to every store.
type StoreInput struct {
	Target
	New Ref `json:"new"`
}

// Store makes the value of the first store pending in every other one, and returns it with all version numbers.
func (a *Activities) Store(ctx context.Context, in StoreInput) (Ref, error) {
	j, err := a.job(in.Target)
	if err != nil {
		return in.New, err
	}
	value, found, err := j.value(ctx, in.New)
	if err != nil {
		return in.New, err
	}
	if !found {
		return in.New, j.gone(in.New)
	}
	for i := range j.stores {
		var replaced, number string
		snap, err := j.edit(ctx, i, func(s *store.Snapshot) (bool, error) {
			// Current, too: a workflow that was reset comes here after its own promote.
			if staged(in.New, s.Pending, s.Current) {
				return false, nil
			}
			if p := s.Pending; p != nil && p.Rotation == "" {
				return false, fault.New(fault.Rejected, "foreign_pending", "stage the new key in "+j.Key.Stores[i].String()).
					WithAdvice("Version %s is pending there and rekey did not put it there. Remove it, or roll back.", p.Number)
			} else if p != nil {
				replaced = p.Number
			}
			if number == "" {
				if number, err = j.stores[i].Add(ctx, j.path(i), value); err != nil {
					return false, err
				}
			}
			s.Install = j.Install
			s.Pending = &store.Version{
				Number: number, KeyID: in.New.KeyID, Stamp: in.New.Stamp, Rotation: j.Rotation, Fingerprint: in.New.Fingerprint, StagedAt: j.now(),
			}
			return true, nil
		})
		if err != nil {
			return in.New, err
		}
		if replaced != "" {
			_ = j.stores[i].Destroy(ctx, j.path(i), replaced)
		}
		for _, v := range snap.Stages() {
			if v.Fingerprint == in.New.Fingerprint {
				in.New.Numbers[i] = v.Number
			}
		}
	}
	return in.New, nil
}

func (j *job) gone(r Ref) error {
	return fault.New(fault.Rejected, "value_gone", fmt.Sprintf("read the value %s of %s", r.Name(), j.Key.Name)).
		WithAdvice("Its versions (%v) cannot be read in any store any more; somebody destroyed them.", r.Numbers)
}

// VerifyInput asks to prove a value.
type VerifyInput struct {
	Target
	Value Ref `json:"value"`
}

// Verified is the proof of a value, or what is wrong with it.
type Verified struct {
	OK bool `json:"ok"`
	// Final: waiting will not help (another account, another value in a store). Otherwise the key may only be
	// too young.
	Final bool   `json:"final,omitempty"`
	Why   string `json:"why,omitempty"`
}

// probes in a row must be accepted: the provider's front ends learn of a new key one after another.
const probes = 3

// Verify reads the value back from every store by version number and proves it at the provider.
func (a *Activities) Verify(ctx context.Context, in VerifyInput) (Verified, error) {
	j, err := a.job(in.Target)
	if err != nil {
		return Verified{}, err
	}
	var value secret.Value
	for i, number := range in.Value.Numbers {
		if number == "" {
			return Verified{Final: true, Why: "The value does not stand in " + j.Key.Stores[i].String() + "."}, nil
		}
		v, err := j.stores[i].Read(ctx, j.path(i), number)
		if fault.Is(err, fault.NotFound) {
			return Verified{Final: true, Why: fmt.Sprintf("Version %s of %s is gone.", number, j.Key.Stores[i])}, nil
		} else if err != nil {
			return Verified{}, err
		}
		if v.Fingerprint() != in.Value.Fingerprint {
			return Verified{Final: true, Why: fmt.Sprintf("Version %s of %s holds another value (%s) than the one that was stored (%s).", number, j.Key.Stores[i], v.Fingerprint(), in.Value.Fingerprint)}, nil
		}
		value = v
	}
	if value.IsEmpty() {
		return Verified{Final: true, Why: j.gone(in.Value).Error()}, nil
	}
	for range probes {
		proof, err := j.provider.Probe(ctx, j.Key.Account, value)
		if err != nil {
			return Verified{}, err
		}
		if !proof.Accepted {
			return Verified{Why: fmt.Sprintf("%s refuses the value %s (%s).", j.Key.Provider, in.Value.Fingerprint, proof.Code)}, nil
		}
		if proof.Account != "" && proof.Account != j.Key.Account {
			return Verified{Final: true, Why: fmt.Sprintf("%s says that the key belongs to %s, wanted is %s.", j.Key.Provider, proof.Account, j.Key.Account)}, nil
		}
	}
	return Verified{OK: true}, nil
}

// PromoteInput asks to make a value current everywhere.
type PromoteInput struct {
	Target
	To Ref `json:"to"`
	// Duties are the keys to revoke later; they are written down before anything is promoted.
	Duties []Ref `json:"duties,omitempty"`
	// Granted are the questions that a person has approved, word by word.
	Granted []string `json:"granted,omitempty"`
}

// Promoted tells how far a promote came.
type Promoted struct {
	// To has the version numbers under which applications read the value.
	To Ref `json:"to"`
	// Lagging are the stores whose readers do not see the value yet.
	Lagging []string `json:"lagging,omitempty"`
	// Question, if set, must be approved by a person: somebody has made values current that this rotation does not know,
	// and nothing was changed. Found are those values. Ask again with the question among Granted, which makes them duties,
	// or with Found among Duties.
	Question string `json:"question,omitempty"`
	Found    []Ref  `json:"found,omitempty"`
}

// Promote writes the duties into every store, then makes the value current in one store after the other, then
// looks through the applications' own eyes. Repeated, it goes on where it stopped. A current value that is neither the
// one to promote nor a duty is a question: overwritten without a word, it would stay live, and nobody would know.
func (a *Activities) Promote(ctx context.Context, in PromoteInput) (Promoted, error) {
	j, err := a.job(in.Target)
	if err != nil {
		return Promoted{}, err
	}
	records, err := j.loadAll(ctx)
	if err != nil {
		return Promoted{To: in.To}, err
	}
	if found, q := j.setByHand(in, records); len(found) > 0 {
		if !slices.Contains(in.Granted, q) {
			for i := range found {
				j.recognisable(ctx, &found[i])
			}
			return Promoted{To: in.To, Question: q, Found: found}, nil
		}
		in.Duties = slices.Clone(in.Duties)
		for _, r := range found {
			in.Duties = merge(in.Duties, r)
		}
	}
	for i := range j.stores {
		if records[i], err = j.editFrom(ctx, i, records[i], func(s *store.Snapshot) (bool, error) {
			if !j.knowsCurrent(in, *s, records) {
				return false, store.ErrConflict(j.path(i)) // asked again, it is a question
			}
			return j.owe(s, in, i), nil
		}); err != nil {
			return Promoted{To: in.To}, err
		}
	}
	for i := range j.stores {
		if err := j.promote(ctx, i, records, &in); err != nil {
			return Promoted{To: in.To}, err
		}
	}
	out := Promoted{To: in.To}
	for i, s := range j.stores {
		v, err := s.Published(ctx, j.path(i))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return out, err
		}
		if err != nil || v.Fingerprint() != in.To.Fingerprint {
			out.Lagging = append(out.Lagging, j.Key.Stores[i].String())
		}
	}
	return out, nil
}

// setByHand finds the values that stand as current and that this rotation does not know, and asks about them. Its words
// do not change while the stores do not.
func (j *job) setByHand(in PromoteInput, records []store.Snapshot) (found []Ref, question string) {
	var where []string
	for i, s := range records {
		if j.knowsCurrent(in, s, records) {
			continue
		}
		r := j.refOf(*s.Current, i)
		found = merge(found, r)
		value := "the value " + r.Fingerprint
		if r.KeyID != "" {
			value = fmt.Sprintf("the key %s (value %s)", r.KeyID, r.Fingerprint)
		}
		where = append(where, fmt.Sprintf("%s in %s, version %s", value, j.Key.Stores[i], s.Current.Number))
	}
	return found, fmt.Sprintf("After this rotation looked, somebody made another value current: %s. "+
		"Approve to replace that too: it is revoked in the end, like the old key.", strings.Join(where, "; "))
}

// knowsCurrent reports whether a promote may take the place of what a record says is current: nothing, the value itself,
// another one of this rotation (on the way back), or a key that is to be revoked.
func (j *job) knowsCurrent(in PromoteInput, s store.Snapshot, records []store.Snapshot) bool {
	c := s.Current
	if c == nil || j.Rotation != "" && c.Rotation == j.Rotation || staged(in.To, c) {
		return true
	}
	r := Ref{KeyID: c.KeyID, Fingerprint: c.Fingerprint}
	return slices.ContainsFunc(in.Duties, r.is) || owed(r, records)
}

// owed reports whether a record names the key as one that a rotation has promised to revoke.
func owed(r Ref, records []store.Snapshot) bool {
	return slices.ContainsFunc(records, func(s store.Snapshot) bool {
		return slices.ContainsFunc(s.Duties, func(d store.Duty) bool { return r.is(Ref{KeyID: d.KeyID, Fingerprint: d.Fingerprint}) })
	})
}

// owe writes the duties into a record and takes out the one that is about to become current again. It tells
// whether anything changed.
func (j *job) owe(s *store.Snapshot, in PromoteInput, i int) bool {
	var duties []store.Duty
	changed := false
	for _, d := range s.Duties {
		if in.To.is(Ref{KeyID: d.KeyID, Fingerprint: d.Fingerprint}) {
			changed = true
			continue
		}
		duties = append(duties, d)
	}
	for _, r := range in.Duties {
		known := false
		for _, d := range duties {
			known = known || r.is(Ref{KeyID: d.KeyID, Fingerprint: d.Fingerprint})
		}
		if !known {
			duties = append(duties, store.Duty{KeyID: r.KeyID, Fingerprint: r.Fingerprint, Version: r.Numbers[i], Rotation: j.Rotation, Since: j.now()})
			changed = true
		}
	}
	s.Duties = duties
	// In reverse: what the promote did not reach yet still has the new value pending.
	if p := s.Pending; p != nil && slices.ContainsFunc(in.Duties, Ref{KeyID: p.KeyID, Fingerprint: p.Fingerprint}.is) {
		s.Pending, changed = nil, true
	}
	return changed
}

// promote makes the value current in the i-th store.
func (j *job) promote(ctx context.Context, i int, records []store.Snapshot, in *PromoteInput) error {
	s, to := records[i], &in.To
	for try := 0; ; try++ {
		if staged(*to, s.Current) {
			to.Numbers[i] = s.Current.Number
			return nil
		}
		saved, err := j.stores[i].Promote(ctx, j.path(i), s, store.Version{
			Number: to.Numbers[i], KeyID: to.KeyID, Stamp: to.Stamp, Rotation: j.rotationOf(s, *to), Fingerprint: to.Fingerprint, CurrentSince: j.now(),
		})
		if err == nil {
			to.Numbers[i] = saved.Current.Number
			j.audit(ctx, "promoted", "key_id", to.KeyID, "fingerprint", to.Fingerprint, "store", j.Key.Stores[i].String(), "version", to.Numbers[i])
			return nil
		}
		if !store.IsConflict(err) || try == 4 {
			return err
		}
		conflict := err
		if s, err = j.load(ctx, i); err != nil {
			return err
		}
		if !j.knowsCurrent(*in, s, records) {
			return conflict // asked again, it is a question
		}
	}
}

// rotationOf keeps the mark of who staged a value when an old one becomes current again.
func (j *job) rotationOf(s store.Snapshot, to Ref) string {
	for _, v := range s.Stages() {
		if staged(to, &v) {
			return v.Rotation
		}
	}
	return ""
}

// HealthInput asks how new and old key are.
type HealthInput struct {
	Target
	New Ref   `json:"new"`
	Old []Ref `json:"old,omitempty"`
}

// Health is how new and old key are during grace.
type Health struct {
	New bool `json:"new"`
	// Old is asked only when the new key is refused: our own probes must not count as use of the old key.
	Old bool `json:"old,omitempty"`
	// Current: applications still read the new value in every store.
	Current bool   `json:"current"`
	Why     string `json:"why,omitempty"`
}

// CheckHealth proves the new key again, and the first old one from the same place if the new one is refused.
func (a *Activities) CheckHealth(ctx context.Context, in HealthInput) (Health, error) {
	j, err := a.job(in.Target)
	if err != nil {
		return Health{}, err
	}
	out := Health{Current: true}
	for i, s := range j.stores {
		v, err := s.Published(ctx, j.path(i))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return out, err
		}
		if err != nil || v.Fingerprint() != in.New.Fingerprint {
			out.Current, out.Why = false, fmt.Sprintf("%s no longer gives applications the new value: somebody changed it.", j.Key.Stores[i])
		}
	}
	accepted := func(r Ref) (bool, error) {
		v, found, err := j.value(ctx, r)
		if err != nil || !found {
			return false, err
		}
		proof, err := j.provider.Probe(ctx, j.Key.Account, v)
		return proof.Accepted, err
	}
	if out.New, err = accepted(in.New); err != nil || out.New {
		return out, err
	}
	out.Why = fmt.Sprintf("%s refuses the new value %s.", j.Key.Provider, in.New.Fingerprint)
	if len(in.Old) > 0 {
		out.Old, err = accepted(in.Old[0])
	}
	return out, err
}

// GuardInput asks whether old keys are in use.
type GuardInput struct {
	Target
	Old []Ref `json:"old"`
}

// Guard asks the provider's metadata for the last use of every old key. The answer is a signal for each; the rule
// that judges them is rotation.Judge.
func (a *Activities) Guard(ctx context.Context, in GuardInput) ([]rotation.Signal, error) {
	j, err := a.job(in.Target)
	if err != nil {
		return nil, err
	}
	signals := make([]rotation.Signal, len(in.Old))
	for i, r := range in.Old {
		signals[i] = rotation.Signal{AskedAt: j.now()}
		switch {
		case !j.caps.Usage:
			signals[i].Message = j.Key.Provider + " does not tell when a key was last used"
		case r.KeyID == "":
			signals[i].Message = "the old key's id is not known"
		default:
			u, err := j.provider.Usage(ctx, j.Key.Account, r.KeyID)
			if err != nil {
				return nil, err
			}
			signals[i].Known, signals[i].LastUsed, signals[i].Freshness = true, u.LastUsed, rotation.Duration(u.Freshness)
		}
	}
	return signals, nil
}
