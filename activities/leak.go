package activities

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// Called reports whether a person means r by name: its fingerprint, its id at the provider, or its version number. A bare
// number means every value that has it in any store; <store>:<number> and <store>:<path>:<number> mean one store's, because
// stores number their versions each for itself. stores are those of the key, in its order.
func (r Ref) Called(name string, stores []rotation.Location) bool {
	if name == "" {
		return false
	}
	if name == r.Fingerprint || name == r.KeyID || slices.Contains(r.Numbers, name) {
		return true
	}
	for i, l := range stores {
		if i < len(r.Numbers) && r.Numbers[i] != "" && (name == l.Store+":"+r.Numbers[i] || name == l.String()+":"+r.Numbers[i]) {
			return true
		}
	}
	return false
}

// leaked sorts out what an emergency is about: in the facts for the due rule, and as the keys to revoke. names are what a
// person named; none means every value that was made before. Values that are under no stage any more count too, as
// long as a store can return them and the provider accepts them: somebody may have stopped half-way years ago.
func (j *job) leaked(ctx context.Context, l *look, names, predecessors []string) ([]Ref, error) {
	others, err := j.unstaged(ctx, l)
	if err != nil {
		return nil, err
	}
	called := func(r Ref, name string) bool { return r.Called(name, j.Key.Stores) }
	meant := func(r Ref) bool {
		return len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { return called(r, name) })
	}
	var gone []Ref
	old := l.old(j.Rotation)
	for _, name := range names {
		if so := func(r Ref) bool { return called(r, name) }; !slices.ContainsFunc(old, so) && !slices.ContainsFunc(others, so) {
			l.unknown = append(l.unknown, name)
		}
	}
	for _, r := range old {
		switch current := slices.ContainsFunc(l.currents, r.is); {
		case current && meant(r):
			l.facts.CurrentLeaked = true
			gone = append(gone, r)
		case !current:
			gone = append(gone, r) // a duty has to go whoever leaked
		}
	}
	l.nothingKnown = len(names) > 0 && len(l.unknown) == len(names)
	// What a predecessor has minted and staged goes whoever leaked: nobody will ever publish it.
	others = slices.DeleteFunc(others, func(r Ref) bool {
		return !meant(r) && (r.Stamp == "" || !slices.Contains(predecessors, r.rotation))
	})
	refused := make([]bool, len(others))
	if err := together(ctx, len(others), func(ctx context.Context, i int) (err error) {
		refused[i], err = j.refused(ctx, others[i])
		return err
	}); err != nil {
		return nil, err
	}
	for i, r := range others {
		if !refused[i] {
			l.facts.Duties++
			gone = merge(gone, r)
		}
	}
	l.facts.LeakNamed = len(names) > 0
	return gone, nil
}

// unstaged are the values that a store can return and that are neither current nor a duty, nor this rotation's own: store by
// store, the newest first.
func (j *job) unstaged(ctx context.Context, l *look) ([]Ref, error) {
	type version struct {
		store  int
		number string
	}
	var all []version
	for i := range l.records {
		numbers, err := j.stores[i].Versions(ctx, j.path(i))
		if err != nil {
			return nil, err
		}
		for _, n := range numbers {
			all = append(all, version{i, n})
		}
	}
	refs := make([]Ref, len(all))
	if err := together(ctx, len(all), func(ctx context.Context, k int) error {
		v := all[k]
		r, err := j.refAt(ctx, v.store, v.number, l.records[v.store])
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		refs[k] = r
		return nil
	}); err != nil {
		return nil, err
	}
	var others []Ref
	for _, r := range refs {
		if r.Fingerprint != "" && r.rotation != j.Rotation && !slices.ContainsFunc(l.currents, r.is) && !slices.ContainsFunc(l.duties, r.is) {
			others = merge(others, r)
		}
	}
	return others, nil
}

// together does n things, scanConcurrency of them at a time, because an account can have hundreds of old values. It ends with the
// first failure.
func together(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	all, each := errgroup.WithContext(ctx)
	all.SetLimit(scanConcurrency)
	for i := range n {
		all.Go(func() error { return do(each, i) })
	}
	return all.Wait()
}

// refAt names the value of a version, from the record if it is there, else from the value. NotFound: there is no key.
func (j *job) refAt(ctx context.Context, i int, number string, s store.Snapshot) (Ref, error) {
	for _, v := range s.Stages() {
		if v.Number == number {
			return j.refOf(v, i), nil
		}
	}
	value, err := j.stores[i].Read(ctx, j.path(i), number)
	if err != nil {
		return Ref{}, err
	}
	p, err := j.provider.Parse(value)
	if err != nil {
		// What does not even look like a key cannot be a live one.
		return Ref{}, fault.New(fault.NotFound, "no_key", "find a key in version "+number+" of "+j.Key.Stores[i].String())
	}
	return j.refOf(store.Version{Number: number, KeyID: p.KeyID, Fingerprint: value.Fingerprint()}, i), nil
}

// emergency is Prepared for an emergency.
func (j *job) emergency(ctx context.Context, in PrepareInput, l look, out *Prepared) error {
	for _, s := range l.records {
		for _, v := range s.Stages() {
			if v.Rotation == j.Rotation && j.Rotation != "" && (len(in.Leaked) == 0 || slices.ContainsFunc(in.Leaked, func(name string) bool { return j.refOf(v, 0).Called(name, nil) })) {
				out.StartAnew = true
			}
		}
	}
	gone, err := j.leaked(ctx, &l, in.Leaked, in.Predecessors)
	if err != nil {
		return err
	}
	out.Verdict, out.Unknown, out.NothingKnown = rotation.Due(l.facts, in.Key.Policy), j.unknownNames(l), l.nothingKnown
	switch out.Verdict.Work {
	case rotation.Rotate:
		// What a closed rotation left pending goes before the mint.
		gone = slices.DeleteFunc(gone, func(r Ref) bool { return j.caps.Mint && j.deletedByCreate(r, l.records) })
		out.Old = gone
		// A current value that was not named goes with the others: a new one takes its place all the same (stores
		// disagree, or it is refused), and it must not be left live and forgotten.
		for _, r := range l.old(j.Rotation) {
			out.Old = merge(out.Old, r)
		}
		// The first is the one that applications read now.
		slices.SortStableFunc(out.Old, func(a, b Ref) int {
			return rank(a, l.currents) - rank(b, l.currents)
		})
	case rotation.Finish:
		out.New, out.Old = &l.currents[0], gone
	}
	return nil
}

// unknownNames says of each name that fits no value of the key what a person should look at: a slip of the pen must not end
// as an emergency that is done.
func (j *job) unknownNames(l look) []string {
	var out []string
	for _, name := range l.unknown {
		if hasKey(l.keys, name) {
			out = append(out, fmt.Sprintf("%s was said to have leaked. The provider has that key, but no store has its value: rekey did not make it and does not revoke it. Revoke it yourself: %s", name, j.provider.Console(j.Key.Account)))
			continue
		}
		out = append(out, fmt.Sprintf("%s was said to have leaked, but no value of %s is called so, in a store or at the provider: it was destroyed long ago, or the name is mistyped. A value is called by its fingerprint, its id at the provider, its version number, or %s:<number> where stores number their versions differently. See what there is with: rekey store list %s %s", name, j.Key.Name, j.Key.Stores[0].Store, j.Key.Stores[0].Store, j.path(0)))
	}
	return out
}

func rank(r Ref, currents []Ref) int {
	if i := slices.IndexFunc(currents, r.is); i >= 0 {
		return i
	}
	return len(currents)
}

// deletedByCreate reports whether Create deletes a key before it mints: another rotation minted it and left it pending, and
// nothing else names it.
func (j *job) deletedByCreate(r Ref, records []store.Snapshot) bool {
	return r.Stamp != "" && j.ours(r.Stamp) && r.rotation != j.Rotation && !j.isStaged(r, records)
}
