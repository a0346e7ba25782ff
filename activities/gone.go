package activities

import (
	"context"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/rekeyhq/rekey/rotation/fault"
)

// The codes of refusals that only time explains.
const (
	// notVisibleYet: the provider does not find a key that it has just made.
	notVisibleYet = "not_visible_yet"
	// listLags: a key was perhaps taken away before, and the provider's list may still show it.
	listLags = "list_lags"
)

// change asks the provider to disable, enable or delete a key. gone reports that it does not have the key any more,
// which is not a failure. It may say so plainly, or refuse what is wanted of a key that is not there in words that mean other
// things too (a missing permission, a precondition); then its list decides. Neither proves anything of a key that is so
// young that the provider may not show it yet: that is Unavailable, until it is old enough.
func (j *job) change(ctx context.Context, keyID string, request func(ctx context.Context, account, keyID string) error) (gone bool, err error) {
	err = request(ctx, j.Key.Account, keyID)
	switch {
	case err == nil:
		return false, nil
	case fault.Is(err, fault.NotFound):
		hidden, loadError := j.hidden(ctx, keyID)
		if loadError != nil {
			return false, loadError
		}
		if hidden > 0 {
			return false, retryLater(err, notVisibleYet, hidden)
		}
		return true, nil
	case !fault.Is(err, fault.Rejected) && !fault.Is(err, fault.AccessDenied):
		return false, err
	}
	absent, known := j.absent(ctx, keyID)
	switch {
	case known && absent:
		return true, nil
	case known && j.caps.ListLag >= time.Millisecond && triedLately(ctx):
		f := retryLater(err, listLags, j.caps.ListLag)
		f.Unsettled = true
		return false, f
	}
	// What was refused is what a person has to know, and not that a list was not to be had.
	return false, err
}

// retryLater is a refusal that may mean something else after a while.
func retryLater(err error, code string, wait time.Duration) *fault.Error {
	f := *fault.Of(err)
	f.Class, f.Code, f.Advice, f.RetryAfter = fault.Unavailable, code, "", wait
	return &f
}

// hidden is how long the provider may yet not show a key that exists, because it is so young; 0 if it must show it. The
// records say when a key was made: nothing that takes a key away gets one that no record names, but those that the
// provider itself has listed.
func (j *job) hidden(ctx context.Context, keyID string) (time.Duration, error) {
	// A lag of 0 in rekey.yaml is a nanosecond here.
	if j.caps.ListLag < time.Millisecond {
		return 0, nil
	}
	records, err := j.loadAll(ctx)
	if err != nil {
		return 0, err
	}
	versions := slices.Clone(j.aside)
	for _, s := range records {
		versions = append(versions, s.Stages()...)
	}
	var newest time.Time
	for _, v := range versions {
		if v.KeyID != keyID {
			continue
		}
		for _, at := range []time.Time{v.StagedAt, v.CurrentSince} {
			if at.After(newest) {
				newest = at
			}
		}
	}
	return max(0, newest.Add(j.caps.ListLag).Sub(j.now())), nil
}

// absent reports whether the provider's list is without the key, and whether that proves anything: a key that is younger
// than what the list shows could be missing from it and live all the same.
func (j *job) absent(ctx context.Context, keyID string) (absent, known bool) {
	if !j.caps.List {
		return false, false
	}
	if hidden, err := j.hidden(ctx, keyID); err != nil || hidden > 0 {
		return false, false
	}
	keys, err := j.provider.List(ctx, j.Key.Account)
	return !hasKey(keys, keyID), err == nil
}

// absentTries is how many tries of one activity wait for a list that lags. A refusal that means what it says must reach a
// person in the end.
const absentTries = 5

// triedLately reports whether an earlier try of this activity may have taken effect.
func triedLately(ctx context.Context) bool {
	return retried(ctx) && activity.GetInfo(ctx).Attempt <= absentTries
}
