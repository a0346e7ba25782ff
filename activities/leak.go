package activities

import (
	"context"
	"fmt"
	"slices"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// Called tells whether a person means r by name: its fingerprint, its id at the provider, or its number in a store.
func (r Ref) Called(name string) bool {
	return name != "" && (name == r.Fingerprint || name == r.KeyID || slices.Contains(r.Numbers, name))
}

// leaked sorts out what an emergency is about: in the facts for the due rule, and as the keys to revoke. names are what a
// person named; none means every value that was made before. Values that are under no stage any more count too, as
// long as a store can give them and the provider accepts them: somebody may have stopped half-way years ago.
func (j *job) leaked(ctx context.Context, l *look, names []string) ([]Ref, error) {
	others, err := j.unstaged(ctx, l)
	if err != nil {
		return nil, err
	}
	meant := func(r Ref) bool { return len(names) == 0 || slices.ContainsFunc(names, r.Called) }
	var gone []Ref
	old := l.old(j.Rotation)
	for _, name := range names {
		if called := func(r Ref) bool { return r.Called(name) }; !slices.ContainsFunc(old, called) && !slices.ContainsFunc(others, called) {
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
	for _, r := range others {
		if !meant(r) {
			continue
		}
		refused, err := j.refused(ctx, r)
		if err != nil {
			return nil, err
		}
		if !refused {
			l.facts.Duties++
			gone = merge(gone, r)
		}
	}
	l.facts.LeakNamed = len(names) > 0
	return gone, nil
}

// unstaged are the values that a store can give and that are neither current nor a duty, nor this rotation's own.
func (j *job) unstaged(ctx context.Context, l *look) ([]Ref, error) {
	var others []Ref
	for i, s := range l.records {
		numbers, err := j.stores[i].Versions(ctx, j.path(i))
		if err != nil {
			return nil, err
		}
		for _, n := range numbers {
			r, err := j.refAt(ctx, i, n, s)
			if fault.Is(err, fault.NotFound) {
				continue
			} else if err != nil {
				return nil, err
			}
			if r.rotation != j.Rotation && !slices.ContainsFunc(l.currents, r.is) && !slices.ContainsFunc(l.duties, r.is) {
				others = merge(others, r)
			}
		}
	}
	return others, nil
}

// refAt names the value of a version, from the record if it stands there, else from the value. NotFound: there is no key.
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

// belongs tells whether a key is one of this key's values: a record names it, or a store still gives it.
func (j *job) belongs(ctx context.Context, r Ref, records []store.Snapshot) (bool, error) {
	if named(r, records) {
		return true, nil
	}
	_, found, err := j.value(ctx, r)
	return found, err
}

// emergency is Prepared for an emergency.
func (j *job) emergency(ctx context.Context, in PrepareInput, l look, out *Prepared) error {
	gone, err := j.leaked(ctx, &l, in.Leaked)
	if err != nil {
		return err
	}
	out.Verdict, out.Unknown = rotation.Due(l.facts, in.Key.Policy), j.unknownNames(l)
	switch out.Verdict.Work {
	case rotation.Rotate:
		out.Old = gone
		if !l.facts.CurrentLeaked && len(l.currents) > 0 {
			// The current value was not named, but a new one takes its place all the same (stores disagree, or it is
			// refused): it goes with it.
			for _, r := range l.old(j.Rotation) {
				out.Old = merge(out.Old, r)
			}
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
		out = append(out, fmt.Sprintf("%s was said to have leaked, but no value of %s is called so, in a store or at the provider: it was destroyed long ago, or the name is mistyped. See what there is with: starter store list %s %s", name, j.Key.Name, j.Key.Stores[0].Store, j.path(0)))
	}
	return out
}

func rank(r Ref, currents []Ref) int {
	if i := slices.IndexFunc(currents, r.is); i >= 0 {
		return i
	}
	return len(currents)
}
