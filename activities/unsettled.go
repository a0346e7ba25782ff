package activities

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// A request to take a key away that was not answered may still take effect, until the horizon is over. Whoever comes
// next, also in a workflow that was reset or begun anew, must not make such a key current: so the request is in the
// first store's record before it is sent, and counts until it is settled.

// pendingRevoke is how long a request to take a key away may still take effect; 0 if none can. It is never more than the
// horizon: a request that is dated later than now was written by a clock that is wrong.
func (j *job) pendingRevoke(r Ref, records []store.Snapshot) time.Duration {
	var rest time.Duration
	for _, s := range records {
		for _, q := range s.Revokes {
			if r.is(Ref{KeyID: q.KeyID, Fingerprint: q.Fingerprint}) {
				rest = max(rest, min(q.At.Add(j.horizon()).Sub(j.now()), j.horizon()))
			}
		}
	}
	return rest
}

// redate gives what is dated later than now in the i-th record the present time, and writes that down: its clock was wrong
// when it was written, or was set back since. It may still take effect until the horizon is over, which is counted from
// now; were that not written, it would be counted anew at each look, until the wrong time has come.
func (j *job) redate(ctx context.Context, i int, s store.Snapshot) (store.Snapshot, error) {
	now := j.now()
	return j.editFrom(ctx, i, s, func(s *store.Snapshot) (changed bool, err error) {
		if c := s.Claim; c != nil && c.At.After(now) {
			claim := *c
			claim.At = now
			s.Claim, changed = &claim, true
		}
		s.Revokes = slices.Clone(s.Revokes)
		for k := range s.Revokes {
			if s.Revokes[k].At.After(now) {
				s.Revokes[k].At, changed = now, true
			}
		}
		return changed, nil
	})
}

// redateWhileLooking is redate for an activity that otherwise only looks: nobody but a rotation of the key may change its record.
func (j *job) redateWhileLooking(ctx context.Context, records []store.Snapshot) (err error) {
	if _, err := j.changing(ctx, j.Target); err != nil {
		return nil //nolint:nilerr // somebody who is only curious
	}
	records[0], err = j.redate(ctx, 0, records[0])
	return err
}

// RevokePending is the code of the fault that refuses to make a key current that may yet be taken away.
const RevokePending = "may_yet_go"

// unsettled is that fault: only time decides it.
func (j *job) unsettled(r Ref, rest time.Duration) error {
	f := fault.New(fault.Unavailable, RevokePending, "make "+r.Name()+" of "+j.Key.Name+" current").
		WithAdvice("A request to take it away may still take effect. It is tried again when that is over.")
	f.RetryAfter = time.Duration(waitFor(rest))
	return f
}

// takeAway is change for a request that takes a key away: it is written down before, and struck out when the answer settles
// it. One that has deleted the key stays until retire clears it: nobody makes that key current again.
//
// records are those that the caller has looked at: where the first one has changed since, nothing is sent, and the conflict
// is retryable, so that whoever asked looks again. They are updated to what was written. contain is for what must go whatever
// the record says, and though it cannot be written.
func (j *job) takeAway(ctx context.Context, r Ref, mode RevokeMode, contain bool, records []store.Snapshot) (gone bool, err error) {
	request := j.provider.Disable
	if mode == DeleteKey {
		request = j.provider.Delete
	}
	earlier, at := j.pendingRevoke(r, records) > 0, j.now()
	// The horizon is counted from the time that is written: what is held up for long must not be sent any more.
	inTime, cancel := context.WithTimeout(ctx, 2*j.caps.RequestTimeout)
	defer cancel()
	written, err := j.recordRevoke(ctx, r, at, contain, records[0])
	switch {
	case err == nil:
		records[0] = written
	case !contain:
		return false, err
	default:
		j.audit(ctx, "a request to take a key away could not be written down", "key_id", r.KeyID, "fingerprint", r.Fingerprint)
	}
	if contain {
		inTime = ctx
	} else if j.now().Sub(at) > j.caps.RequestTimeout {
		return false, fault.New(fault.Unavailable, "slow", "write down that "+r.Name()+" of "+j.Key.Name+" is to go")
	}
	gone, err = j.change(inTime, r.KeyID, request)
	var f *fault.Error
	switch {
	case earlier, err == nil && (gone || mode == DeleteKey):
	case err == nil, errors.As(err, &f) && !f.Unsettled:
		// Where this fails the request counts until the horizon is over, which harms nobody.
		if struck, failed := j.editFrom(ctx, 0, records[0], func(s *store.Snapshot) (bool, error) {
			return forgetRevokes(s, func(id, fingerprint string) bool { return r.is(Ref{KeyID: id, Fingerprint: fingerprint}) }), nil
		}); failed == nil {
			records[0] = struck
		}
	}
	return gone, err
}

// recordRevoke writes into the first store's record that a key is asked to go, and drops what can take effect no more.
func (j *job) recordRevoke(ctx context.Context, r Ref, at time.Time, contain bool, s store.Snapshot) (store.Snapshot, error) {
	add := func(s *store.Snapshot) (bool, error) {
		replaced := func(q store.Revoke) bool {
			return r.is(Ref{KeyID: q.KeyID, Fingerprint: q.Fingerprint}) || !at.Before(q.At.Add(j.horizon()))
		}
		s.Revokes = append(slices.DeleteFunc(slices.Clone(s.Revokes), replaced), store.Revoke{KeyID: r.KeyID, Fingerprint: r.Fingerprint, At: at})
		return true, nil
	}
	if contain {
		return j.editFrom(ctx, 0, s, add)
	}
	_, _ = add(&s)
	return j.stores[0].Save(ctx, j.path(0), s)
}

// forgetRevokes strikes out the requests to take some keys away.
func forgetRevokes(s *store.Snapshot, is func(id, fingerprint string) bool) (changed bool) {
	left := slices.DeleteFunc(slices.Clone(s.Revokes), func(q store.Revoke) bool { return is(q.KeyID, q.Fingerprint) })
	changed = len(left) != len(s.Revokes)
	s.Revokes = left
	return changed
}
