package scenario

import (
	"context"
	"errors"

	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/local"
)

// putLocal stores a first value in the local store as if a person had put it there. keyID is empty where the value does not
// say which key it is.
func (s *Scenario) putLocal(path string, value secret.Value, keyID string) error {
	if s.opts.Dir == "" {
		return errors.New("a scenario without a Dir has no local store")
	}
	l, err := local.New(local.Options{Name: Local, Dir: s.localDir(), IdentityFile: s.identity(), CreateIdentity: true})
	if err != nil {
		return err
	}
	ctx := context.Background()
	number, err := l.Add(ctx, path, value)
	if err != nil {
		return err
	}
	snap, err := l.Load(ctx, path)
	if err != nil {
		return err
	}
	_, err = l.Promote(ctx, path, snap, store.Version{Number: number, KeyID: keyID, Fingerprint: value.Fingerprint(), CurrentSince: s.Cloud.Now()})
	return err
}
