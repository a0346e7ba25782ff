package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// PromoteInput asks to make a value current everywhere.
type PromoteInput struct {
	Target
	To Ref `json:"to"`
	// Duties are the keys to revoke later; they are written down before anything is promoted.
	Duties []Ref `json:"duties,omitempty"`
	// ApprovedQuestions are the questions that a person has approved: an approval counts for the kind of question and the ids that it names.
	ApprovedQuestions []rotation.Ask `json:"approvedQuestions,omitempty"`
	// Insist makes it a failure (Unavailable, code "read_lag") that a store still shows applications another value.
	Insist bool `json:"insist,omitempty"`
}

// Promoted says how far a promote came.
type Promoted struct {
	// To has the version numbers under which applications read the value.
	To Ref `json:"to"`
	// Lagging are the stores whose readers do not see the value yet.
	Lagging []string `json:"lagging,omitempty"`
	// Question, if set, must be approved by a person: somebody has made values current that this rotation does not know,
	// and nothing was changed. Found are those values. Ask again with the question among Granted, which makes them duties,
	// or with Found among Duties.
	Question *rotation.Ask `json:"question,omitempty"`
	Found    []Ref         `json:"found,omitempty"`
	// Unknown names the keys among Duties that no store knows any more, so that nobody can prove what they are. They are not
	// written down.
	Unknown []string `json:"unknown,omitempty"`
}

// Promote writes the duties into every store, then makes the value current in one store after the other, then
// looks through the applications' own eyes. Repeated, it goes on where it stopped. A current value that is neither the
// one to promote nor a duty is a question: overwritten silently, it would stay live, and nobody would know.
func (s *Steps) Promote(ctx context.Context, in PromoteInput) (Promoted, error) {
	j, err := s.changing(ctx, in.Target)
	if err != nil {
		return Promoted{}, err
	}
	records, err := j.loadAll(ctx)
	if err != nil {
		return Promoted{To: in.To}, err
	}
	to, found, err := j.trace(ctx, in.To, records)
	if err != nil {
		return Promoted{To: in.To}, err
	}
	if !found || !to.pendingHere && !to.wasRead && !to.isDuty {
		return Promoted{To: in.To}, j.unknownValue(ctx, in.To)
	}
	if records[0], err = j.redate(ctx, 0, records[0]); err != nil {
		return Promoted{To: in.To}, err
	}
	if rest := j.pendingRevoke(to.Ref, records); rest > 0 {
		return Promoted{To: in.To}, j.unsettled(to.Ref, rest)
	}
	duties, unknown, err := j.traceDuties(ctx, in.Duties, records)
	if err != nil {
		return Promoted{To: in.To}, err
	}
	if err := j.proven(ctx, to.Ref); err != nil {
		return Promoted{To: in.To}, err
	}
	in.To, in.Duties = to.Ref, duties
	if found, q := j.setByHand(in, records); len(found) > 0 {
		if !q.In(in.ApprovedQuestions) {
			for i := range found {
				j.recognisable(ctx, &found[i])
			}
			return Promoted{To: in.To, Question: &q, Found: found}, nil
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
			if rest := j.pendingRevoke(in.To, []store.Snapshot{*s}); rest > 0 {
				return false, j.unsettled(in.To, rest) // somebody has asked for that since
			}
			return j.recordDuties(s, in, i), nil
		}); err != nil {
			return Promoted{To: in.To}, err
		}
	}
	for i := range j.stores {
		if err := j.promote(ctx, i, records, &in); err != nil {
			return Promoted{To: in.To}, err
		}
	}
	if err := j.keepPromoted(ctx, in.To); err != nil {
		return Promoted{To: in.To}, err
	}
	out := Promoted{To: in.To}
	for _, r := range unknown {
		out.Unknown = append(out.Unknown, r.Name())
	}
	for i, s := range j.stores {
		v, err := s.Published(ctx, j.path(i))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return out, err
		}
		if err != nil || v.Fingerprint() != in.To.Fingerprint {
			out.Lagging = append(out.Lagging, j.Key.Stores[i].String())
		}
	}
	if in.Insist && len(out.Lagging) > 0 {
		return out, fault.New(fault.Unavailable, "read_lag", "make the new value of "+j.Key.Name+" current").
			WithAdvice("Applications still read another value in %s. Nothing is revoked before they read the new one.", strings.Join(out.Lagging, ", "))
	}
	return out, nil
}

// setByHand finds the values that are current and that this rotation does not know, and asks about them. It is
// the same question while the stores do not change.
func (j *job) setByHand(in PromoteInput, records []store.Snapshot) (found []Ref, question rotation.Ask) {
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
	question = rotation.Ask{Kind: ChangedCurrent, Text: fmt.Sprintf("After this rotation looked, somebody made another value current: %s. "+
		"Approve to replace that too: it is revoked in the end, like the old key.", strings.Join(where, "; "))}
	for _, r := range found {
		question.About = append(question.About, r.Name())
	}
	return found, question
}

// knowsCurrent reports whether a promote may take the place of what a record says is current: nothing, the value itself,
// another one of this rotation (on the way back), or a key that is to be revoked.
func (j *job) knowsCurrent(in PromoteInput, s store.Snapshot, records []store.Snapshot) bool {
	c := s.Current
	if c == nil || j.Rotation != "" && c.Rotation == j.Rotation || staged(in.To, c) {
		return true
	}
	r := Ref{KeyID: c.KeyID, Fingerprint: c.Fingerprint}
	return slices.ContainsFunc(in.Duties, r.is) || isDuty(r, records)
}

// isDuty reports whether a record names the key as one that a rotation has promised to revoke.
func isDuty(r Ref, records []store.Snapshot) bool {
	return slices.ContainsFunc(records, func(s store.Snapshot) bool {
		return slices.ContainsFunc(s.Duties, func(d store.Duty) bool { return r.is(Ref{KeyID: d.KeyID, Fingerprint: d.Fingerprint}) })
	})
}

// keepPromoted takes the value that is current everywhere now out of the duties. Not before: cut off in between, a key that
// is neither current nor a duty would be forgotten.
func (j *job) keepPromoted(ctx context.Context, to Ref) error {
	for i := range j.stores {
		if _, err := j.edit(ctx, i, func(s *store.Snapshot) (bool, error) {
			duties := slices.DeleteFunc(slices.Clone(s.Duties), func(d store.Duty) bool { return to.is(Ref{KeyID: d.KeyID, Fingerprint: d.Fingerprint}) })
			changed := len(duties) != len(s.Duties)
			s.Duties = duties
			return changed, nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// recordDuties writes the duties into a record. It reports whether anything changed.
func (j *job) recordDuties(s *store.Snapshot, in PromoteInput, i int) bool {
	duties, changed := slices.Clone(s.Duties), false
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
		if rest := j.pendingRevoke(*to, []store.Snapshot{s}); rest > 0 {
			return j.unsettled(*to, rest)
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
