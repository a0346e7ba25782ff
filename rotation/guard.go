package rotation

import (
	"fmt"
	"time"
)

// UseVerdict is an answer to "is the old key still in use?".
type UseVerdict string

// The answers.
const (
	Unused  UseVerdict = "Unused"
	InUse   UseVerdict = "InUse"
	Unknown UseVerdict = "Unknown"
)

// UsageReport is what is known about the use of an old key.
type UsageReport struct {
	// Known: the provider answered. Otherwise Message says why not.
	Known   bool   `json:"known"`
	Message string `json:"message,omitempty"`
	// LastUsed is zero if the provider has seen no use.
	LastUsed time.Time `json:"lastUsed,omitzero"`
	// Freshness is how old a use may be before the provider shows it.
	Freshness Duration `json:"freshness,omitempty"`
	// AskedAt is when the provider was asked.
	AskedAt time.Time `json:"askedAt"`
}

// EvaluateUse decides from a signal whether an old key is in use. Applications could read the new value from published
// on, so use before that is not a sign of anything. A signal is worth something only when it has had time to show
// use after published: until then the answer is Unknown.
func EvaluateUse(s UsageReport, published time.Time, quiet Duration) (UseVerdict, string) {
	if !s.Known {
		return Unknown, s.Message
	}
	if s.LastUsed.After(published) && s.AskedAt.Sub(s.LastUsed) < time.Duration(quiet+s.Freshness) {
		return InUse, fmt.Sprintf("last used at %s, after the new value was published", s.LastUsed.Format(time.RFC3339))
	}
	if seen := s.AskedAt.Sub(published); seen < time.Duration(s.Freshness+quiet) {
		return Unknown, fmt.Sprintf("the provider shows use with up to %s delay and the new value is out for %s only", s.Freshness, Duration(seen.Truncate(time.Second)))
	}
	return Unused, fmt.Sprintf("no use seen in the last %s", quiet)
}
