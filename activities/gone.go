package activities

import (
	"context"

	"github.com/rekeyhq/rekey/rotation/fault"
)

// change asks the provider to disable, enable or delete a key. gone reports that it does not have the key any more,
// which is no failure. It may say so plainly, or refuse what is wanted of a key that is not there in words that mean other
// things too (a missing permission, a precondition); then its list decides.
func (j *job) change(ctx context.Context, keyID string, request func(ctx context.Context, account, keyID string) error) (gone bool, err error) {
	err = request(ctx, j.Key.Account, keyID)
	switch {
	case err == nil:
		return false, nil
	case fault.Is(err, fault.NotFound):
		return true, nil
	case !fault.Is(err, fault.Rejected) && !fault.Is(err, fault.AccessDenied):
		return false, err
	}
	if absent, known := j.absent(ctx, keyID); known && absent {
		return true, nil
	}
	// What was refused is what a person has to know, and not that a list was not to be had.
	return false, err
}

// absent reports whether the provider's list is without the key, and whether that proves anything: a key that is younger
// than what the list shows could be missing from it and live all the same.
func (j *job) absent(ctx context.Context, keyID string) (absent, known bool) {
	if !j.caps.List {
		return false, false
	}
	records, err := j.loadAll(ctx)
	if err != nil {
		return false, false
	}
	for _, s := range records {
		for _, v := range s.Stages() {
			if shown := j.now().Add(-j.caps.ListLag); v.KeyID == keyID && (v.StagedAt.After(shown) || v.CurrentSince.After(shown)) {
				return false, false
			}
		}
	}
	keys, err := j.provider.List(ctx, j.Key.Account)
	return !hasKey(keys, keyID), err == nil
}
