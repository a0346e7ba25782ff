package auditor

import (
	"context"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// watchedStore writes down what rekey asks of a store.
type watchedStore struct {
	store.Store
	name string
	a    *Auditor
}

// watchedDatedStore is one that is store.Dated as well.
type watchedDatedStore struct {
	*watchedStore
	store.Dated
}

func (a *Auditor) watchStore(name string, s store.Store) store.Store {
	w := &watchedStore{s, name, a}
	if dated, ok := s.(store.Dated); ok {
		return watchedDatedStore{w, dated}
	}
	return w
}

func (w *watchedStore) at(path string) rotation.Location {
	return rotation.Location{Store: w.name, Path: path}
}

func (w *watchedStore) Load(ctx context.Context, path string) (store.Snapshot, error) {
	op := w.a.history.begin(Op{Kind: Load, By: rekey, Where: w.at(path)})
	s, err := w.Store.Load(ctx, path)
	w.a.history.end(op, err, func(op *Op) { op.After, op.AfterRevision = &s.Record, s.Revision })
	return s, err
}

func (w *watchedStore) Save(ctx context.Context, path string, s store.Snapshot) (store.Snapshot, error) {
	op := w.a.history.begin(Op{Kind: Save, By: rekey, Where: w.at(path), Revision: s.Revision, Before: &s.Record})
	saved, err := w.Store.Save(ctx, path, s)
	w.a.history.end(op, err, func(op *Op) { op.After, op.AfterRevision = &saved.Record, saved.Revision })
	return saved, err
}

func (w *watchedStore) Add(ctx context.Context, path string, v secret.Value) (string, error) {
	w.a.history.keep(v)
	op := w.a.history.begin(Op{Kind: Add, By: rekey, Where: w.at(path), Fingerprint: v.Fingerprint()})
	number, err := w.Store.Add(ctx, path, v)
	w.a.history.end(op, err, func(op *Op) { op.Answered = number })
	return number, err
}

func (w *watchedStore) Read(ctx context.Context, path, number string) (secret.Value, error) {
	op := w.a.history.begin(Op{Kind: Read, By: rekey, Where: w.at(path), Number: number})
	v, err := w.Store.Read(ctx, path, number)
	w.a.history.end(op, err, func(op *Op) { op.Fingerprint = v.Fingerprint() })
	return v, err
}

func (w *watchedStore) Published(ctx context.Context, path string) (secret.Value, error) {
	op := w.a.history.begin(Op{Kind: Published, By: rekey, Where: w.at(path)})
	v, err := w.Store.Published(ctx, path)
	w.a.history.end(op, err, func(op *Op) { op.Fingerprint = v.Fingerprint() })
	return v, err
}

func (w *watchedStore) Promote(ctx context.Context, path string, s store.Snapshot, v store.Version) (store.Snapshot, error) {
	op := w.a.history.begin(Op{
		Kind: Promote, By: rekey, Where: w.at(path), Revision: s.Revision, Before: &s.Record, Number: v.Number, Fingerprint: v.Fingerprint, KeyID: v.KeyID,
	})
	saved, err := w.Store.Promote(ctx, path, s, v)
	w.a.history.end(op, err, func(op *Op) {
		op.After, op.AfterRevision = &saved.Record, saved.Revision
		if saved.Current != nil {
			op.Answered = saved.Current.Number
		}
	})
	w.a.Step(ctx)
	return saved, err
}

func (w *watchedStore) Destroy(ctx context.Context, path, number string) error {
	op := w.a.history.begin(Op{Kind: Destroy, By: rekey, Where: w.at(path), Number: number})
	err := w.Store.Destroy(ctx, path, number)
	w.a.history.end(op, err, func(*Op) {})
	return err
}

// watchedProvider writes down what rekey asks of a provider.
type watchedProvider struct {
	provider.Provider
	a *Auditor
}

func (w *watchedProvider) Parse(v secret.Value) (provider.Parsed, error) {
	p, err := w.Provider.Parse(v)
	if err == nil {
		w.a.history.identified(p.Value, p.KeyID)
	}
	return p, err
}

func (w *watchedProvider) Probe(ctx context.Context, account string, v secret.Value) (provider.Proof, error) {
	op := w.a.history.begin(Op{Kind: Probe, By: rekey, Fingerprint: v.Fingerprint()})
	p, err := w.Provider.Probe(ctx, account, v)
	w.a.history.end(op, err, func(op *Op) { op.Accepted = p.Accepted })
	return p, err
}

func (w *watchedProvider) List(ctx context.Context, account string) ([]provider.Key, error) {
	op := w.a.history.begin(Op{Kind: List, By: rekey})
	keys, err := w.Provider.List(ctx, account)
	w.a.history.end(op, err, func(op *Op) { op.Keys = keys })
	return keys, err
}

func (w *watchedProvider) Mint(ctx context.Context, account, stamp string) (provider.Minted, error) {
	op := w.a.history.begin(Op{Kind: Mint, By: rekey, Stamp: stamp})
	m, err := w.Provider.Mint(ctx, account, stamp)
	if err == nil {
		w.a.history.keep(m.Value)
	}
	w.a.history.end(op, err, func(op *Op) { op.KeyID, op.Fingerprint = m.ID, m.Value.Fingerprint() })
	return m, err
}

func (w *watchedProvider) Disable(ctx context.Context, account, keyID string) error {
	return w.change(ctx, Disable, account, keyID, w.Provider.Disable)
}

func (w *watchedProvider) Enable(ctx context.Context, account, keyID string) error {
	return w.change(ctx, Enable, account, keyID, w.Provider.Enable)
}

func (w *watchedProvider) Delete(ctx context.Context, account, keyID string) error {
	return w.change(ctx, Delete, account, keyID, w.Provider.Delete)
}

func (w *watchedProvider) change(ctx context.Context, k Kind, account, keyID string, request func(ctx context.Context, account, keyID string) error) error {
	op := w.a.history.begin(Op{Kind: k, By: rekey, KeyID: keyID})
	err := request(ctx, account, keyID)
	w.a.history.end(op, err, func(*Op) {})
	w.a.Step(ctx)
	return err
}
