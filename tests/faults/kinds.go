package faults

import (
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
)

// kinds are the ways in which a request goes wrong.
var kinds = map[string]simcloud.Fault{
	"500":  {Kind: simcloud.Refuse, Code: 500},
	"503":  {Kind: simcloud.Refuse, Code: 503},
	"429":  {Kind: simcloud.Refuse, Code: 429, RetryAfter: time.Second},
	"403":  {Kind: simcloud.Refuse, Code: 403},
	"drop": {Kind: simcloud.DropBefore},
	"lose": {Kind: simcloud.LoseReply},
	"cut":  {Kind: simcloud.CutReply},
	// The caller has long gone when it takes effect: when its activity has ended, or just before the next one begins.
	"late":  {Kind: simcloud.CommitLate},
	"later": {Kind: simcloud.CommitLate},
	// Nobody lets it go on: it ends with its caller.
	"hang":        {Kind: simcloud.Hold},
	"kill-before": {Kind: simcloud.Hold},
	"kill-after":  {Kind: simcloud.CommitLate},
}

// singles are the kinds that are tried one at a time.
var singles = []string{"500", "503", "429", "403", "drop", "lose", "cut", "late", "later"}

// nth is the fault of one kind for the n-th request.
func nth(n int, kind string) simcloud.Fault {
	f := kinds[kind]
	f.Skip, f.Times, f.Reached = n, 1, make(chan struct{})
	switch f.Kind {
	case simcloud.Hold:
		f.Release = make(chan struct{})
	case simcloud.CommitLate:
		f.Release, f.Done = make(chan struct{}), make(chan struct{})
	}
	return f
}
