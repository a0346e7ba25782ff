package activities

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// IdentifyInput asks whose values have the given fingerprints.
type IdentifyInput struct {
	// Fingerprints are of one value in its possible forms (a pasted key file and the rebuilt one), or of its id at the
	// provider.
	Fingerprints []string `json:"fingerprints"`
	// Within are patterns of names: other keys of rekey.yaml are not looked at. None means all keys.
	Within []string `json:"within,omitempty"`
}

// Identified is whose value it is.
type Identified struct {
	// Found are the keys that have the value, by name; empty if it is in no store.
	Found []Found `json:"found,omitempty"`
}

// Found is a key that has the value.
type Found struct {
	Key string `json:"key"`
	// Value is the fingerprint that the stores know the value by.
	Value string `json:"value"`
	// Live: the provider accepts the value, or nobody can know because no store returns it any more.
	Live bool `json:"live,omitempty"`
}

// Identify finds the keys of the worker's rekey.yaml that have a value under any stage, as a duty, or as a version
// under no stage, and asks the provider whether it still accepts it. It changes nothing. Records are read, not values,
// where a record has the fingerprint. Unavailable, and retryable, if the value was not found and a key could not be looked at.
func (l *Launcher) Identify(ctx context.Context, in IdentifyInput) (Identified, error) {
	const doing = "find whose value was reported"
	if len(in.Fingerprints) == 0 {
		return Identified{}, fault.New(fault.Rejected, "bad_input", doing).WithAdvice("No fingerprint was given.")
	}
	defer keepHeartbeat(ctx)()
	// Two turns: records have nearly every value that is reported, and reading all values takes much longer.
	for _, deep := range []bool{false, true} {
		seen, err := l.Index.scan(ctx, l, deep)
		if err != nil {
			return Identified{}, err
		}
		out, err := l.identify(ctx, in, seen)
		switch {
		case err != nil:
			return Identified{}, err
		case len(out.Found) > 0:
			return out, nil
		case len(seen.missed) > 0:
			return Identified{}, fault.New(fault.Unavailable, "not_all_seen", doing).WithAdvice(
				"It is in no store that answered; these keys could not be looked at: %s. See rekey doctor.", truncate(strings.Join(seen.missed, ", ")))
		}
	}
	return Identified{}, nil
}

// identify asks the providers about the values that are meant.
func (l *Launcher) identify(ctx context.Context, in IdentifyInput, seen *scan) (out Identified, err error) {
	for _, k := range l.Keys() {
		refs := seen.refs[k.Name]
		i := slices.IndexFunc(refs, func(r Ref) bool { return r.reported(in.Fingerprints) })
		if i < 0 || !Within(in.Within, k.Name) {
			continue
		}
		j, err := l.job(Target{Key: k})
		if err != nil {
			return Identified{}, err
		}
		refused, err := j.refused(ctx, refs[i])
		if err != nil {
			return Identified{}, err
		}
		out.Found = append(out.Found, Found{Key: k.Name, Value: refs[i].Fingerprint, Live: !refused})
	}
	return out, nil
}

// reported reports whether a report means r: by its value, or by its id, which is what GitHub finds in some key files.
func (r Ref) reported(fingerprints []string) bool {
	return r.Fingerprint != "" && slices.Contains(fingerprints, r.Fingerprint) ||
		r.KeyID != "" && slices.Contains(fingerprints, secret.FromString(r.KeyID).Fingerprint())
}

// Within reports whether a name is one that the patterns mean; none means every name. A * stands for any text.
func Within(patterns []string, name string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return err == nil && ok
	})
}

// Fingerprints are those by which Identify knows a value that somebody found: as it is, in the form that rekey stores it
// in, and of its id at the provider, because a key file can be written in many ways.
func (e *Environment) Fingerprints(v secret.Value) []string {
	all := []string{v.Fingerprint()}
	for _, p := range e.Providers {
		if parsed, err := p.Parse(v); err == nil {
			all = append(all, parsed.Value.Fingerprint(), secret.FromString(parsed.KeyID).Fingerprint())
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(f string) bool { return f == "" })
}
