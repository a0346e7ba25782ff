package googlesm

import (
	"encoding/json"
	"maps"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

const (
	// annotation holds the record. Google's proto comment: annotations are there for client tools to keep state in.
	annotation = "rekey-record"
	// maxAnnotations is Google's limit of all annotations of a secret together: less than 16 KiB.
	maxAnnotations = 16 << 10
	// recordFormat changes when an older rekey would lose something by writing the record back.
	recordFormat = 1
)

// stored is the record as it is written.
type stored struct {
	Format int `json:"format"`
	store.Record
	Promoting *promoting `json:"promoting,omitempty"`
}

// promoting is noted before a value is added where applications read the newest version: whoever comes after a
// crash can distinguish rekey's own new version from somebody else's.
type promoting struct {
	Version store.Version `json:"version"`
	// After is the number of the newest version before.
	After int64 `json:"after"`
}

// decode reads the record out of a secret's annotations; without one it is empty.
func (c *client) decode(id string, annotations map[string]string) (stored, error) {
	text, ok := annotations[annotation]
	if !ok {
		return stored{}, nil
	}
	var r stored
	doing := c.doing("read rekey's record of secret " + id)
	if json.Unmarshal([]byte(text), &r) != nil {
		return stored{}, fault.New(fault.Rejected, "bad_record", doing).WithAdvice(
			"Annotation %s is not what rekey wrote. Restore it, or, if no rotation of this key is under way and nothing waits to be revoked, remove the annotation.", annotation)
	}
	if r.Format != recordFormat {
		return stored{}, fault.New(fault.Rejected, "record_format", doing).WithAdvice("Annotation %s was written by another version of rekey: update this one.", annotation)
	}
	return r, nil
}

// encode returns the secret's annotations with r in them; those of others stay as they are.
func (c *client) encode(id string, annotations map[string]string, r stored) (map[string]string, error) {
	doing := c.doing("write rekey's record of secret " + id)
	r.Format = recordFormat
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fault.New(fault.Internal, "bad_record", doing)
	}
	out := map[string]string{}
	maps.Copy(out, annotations)
	out[annotation] = string(text)
	size := 0
	for k, v := range out {
		size += len(k) + len(v)
	}
	if size >= maxAnnotations {
		return nil, fault.New(fault.Rejected, "too_large", doing).WithAdvice(
			"A secret's annotations must stay below 16 KiB together; rekey's record has %d bytes and %d keys to revoke. Remove annotations of others, or revoke what waits.", len(text), len(r.Duties))
	}
	return out, nil
}
