// Package fault sorts the failures of other people's APIs into a handful of classes, where they happen.
//
// What a provider or a store says in an error can hold key material (OpenAI echoes part of the key, the
// Anthropic client prints the whole body), so its text stops in the adapter: a fault carries a class, a code
// and our own words (I5).
package fault

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Class says what to do about a failure, not where it came from.
type Class string

// The classes, and whether the same request may succeed later without anybody changing anything.
const (
	// Rejected: the request is understood and refused (limit reached, bad state, policy). Not retryable.
	Rejected Class = "Rejected"
	// NotFound: what the request names does not exist. Not retryable; on delete it means done.
	NotFound Class = "NotFound"
	// AccessDenied: our own credentials are refused or lack a permission. Not retryable at once; a person can
	// grant it, so a rotation under way waits and asks again.
	AccessDenied Class = "AccessDenied"
	// Unavailable: no answer, or an answer that says "later". Retryable.
	Unavailable Class = "Unavailable"
	// Throttled: too many requests; RetryAfter says how long to wait. Retryable.
	Throttled Class = "Throttled"
	// Internal: a defect of ours, or an answer that makes no sense. Not retryable.
	Internal Class = "Internal"
)

// Retryable reports whether the same request may succeed later without anybody changing anything.
func (c Class) Retryable() bool { return c == Unavailable || c == Throttled }

// Error is a classified failure. Its text is safe in logs and histories.
type Error struct {
	Class Class
	// Code is the provider's or store's own short code ("invalid_api_key", "FailedPrecondition", "503").
	// Codes that do not look like one are dropped: they could be free text.
	Code string
	// Doing says in our words what was tried, on what: "list keys of ci@acme.iam.gserviceaccount.com".
	Doing string
	// Advice says what a person can do about it; empty if only waiting helps.
	Advice string
	// Links are the addresses within the advice that rekey itself put there. A page shows these as links, and no others.
	Links []string
	// RetryAfter is how long the other side asked us to wait; 0 if it did not say.
	RetryAfter time.Duration
	// Unsettled: the request may still have taken effect, or may yet. For a mint this means: wait out the
	// horizon and look before minting again.
	Unsettled bool
}

var code = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,47}$|^[0-9]{3}$`)

// New makes an Error; a code that could be free text is dropped.
func New(class Class, codeText, doing string) *Error {
	e := &Error{Class: class, Doing: doing}
	if code.MatchString(codeText) {
		e.Code = codeText
	}
	return e
}

// Link is an address that an adapter makes from its own templates: a console's. It marks what may become a link.
type Link string

// WithAdvice returns a copy that tells a person what to do. Addresses among args that a person is to open are Links.
func (e *Error) WithAdvice(format string, args ...any) *Error {
	c := *e
	c.Advice, c.Links = fmt.Sprintf(format, args...), nil
	for _, arg := range args {
		if l, ok := arg.(Link); ok {
			c.Links = append(c.Links, string(l))
		}
	}
	return &c
}

func (e *Error) Error() string {
	text := e.Doing + ": " + e.Class.words()
	if e.Code != "" {
		text += " (" + e.Code + ")"
	}
	if e.Unsettled {
		text += "; it may have taken effect all the same"
	}
	if e.Advice != "" {
		text += ". " + e.Advice
	}
	return text
}

func (c Class) words() string {
	switch c {
	case Rejected:
		return "refused"
	case NotFound:
		return "not found"
	case AccessDenied:
		return "access denied"
	case Unavailable:
		return "unavailable"
	case Throttled:
		return "too many requests"
	default:
		return "unexpected answer"
	}
}

// Of finds the Error in err's chain. An error that nobody classified is Internal, and its text is dropped:
// nobody has said that it is safe to show.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return New(Internal, "", fmt.Sprintf("unclassified error of type %T", errors.Unwrap(err)))
}

// Is reports whether err is a fault of the given class.
func Is(err error, class Class) bool {
	var e *Error
	return errors.As(err, &e) && e.Class == class
}
