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
// next, also in a workflow that was reset or begun anew, must not make such a key current: so the request stands in the
// first store's record before it is sent, and counts until it is settled.

// mayYetGo is how long a request to take a key away may still take effect; 0 if none can.
func (j *job) mayYetGo(r Ref, records []store.Snapshot) time.Duration {
	var rest time.Duration
	for _, s := range records {
		for _, q := range s.Revokes {
			if r.is(Ref{KeyID: q.KeyID, Fingerprint: q.Fingerprint}) {
				rest = max(rest, q.At.Add(j.horizon()).Sub(j.now()))
			}
		}
	}
	return rest
}

// MayYetGo is the code of the fault that refuses to make a key current that may yet be taken away.
const MayYetGo = "may_yet_go"

// unsettled is that fault: only time decides it.
func (j *job) unsettled(r Ref, rest time.Duration) error {
	f := fault.New(fault.Unavailable, MayYetGo, "make "+r.Name()+" of "+j.Key.Name+" current").
		WithAdvice("A request to take it away was not answered and may still take effect. It is tried again when that is over.")
	f.RetryAfter = time.Duration(waitFor(rest))
	return f
}

// takeAway is change for a request that takes a key away: it is written down before, and struck out when the answer settles
// it. One that has deleted the key stays until retire clears it: nobody makes that key current again.
func (j *job) takeAway(ctx context.Context, r Ref, mode RevokeMode, records []store.Snapshot) (gone bool, err error) {
	request := j.provider.Disable
	if mode == DeleteKey {
		request = j.provider.Delete
	}
	earlier := j.mayYetGo(r, records) > 0
	written, err := j.editFrom(ctx, 0, records[0], func(s *store.Snapshot) (bool, error) {
		replaced := func(q store.Revoke) bool {
			return r.is(Ref{KeyID: q.KeyID, Fingerprint: q.Fingerprint}) || !j.now().Before(q.At.Add(j.horizon()))
		}
		s.Revokes = append(slices.DeleteFunc(slices.Clone(s.Revokes), replaced), store.Revoke{KeyID: r.KeyID, Fingerprint: r.Fingerprint, At: j.now()})
		return true, nil
	})
	if err != nil {
		return false, err
	}
	gone, err = j.change(ctx, r.KeyID, request)
	var f *fault.Error
	switch {
	case earlier, err == nil && (gone || mode == DeleteKey):
	case err == nil, errors.As(err, &f) && !f.Unsettled:
		// Where this fails the request counts until the horizon is over, which harms nobody.
		_, _ = j.editFrom(ctx, 0, written, func(s *store.Snapshot) (bool, error) {
			return forgetRevokes(s, func(id, fingerprint string) bool { return r.is(Ref{KeyID: id, Fingerprint: fingerprint}) }), nil
		})
	}
	return gone, err
}

// forgetRevokes strikes out the requests to take some keys away.
func forgetRevokes(s *store.Snapshot, is func(id, fingerprint string) bool) (changed bool) {
	left := slices.DeleteFunc(slices.Clone(s.Revokes), func(q store.Revoke) bool { return is(q.KeyID, q.Fingerprint) })
	changed = len(left) != len(s.Revokes)
	s.Revokes = left
	return changed
}
