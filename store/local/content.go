package local

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

	"filippo.io/age"

	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// fileFormat changes when an older rekey would lose something by writing the file back.
const fileFormat = 1

// content is what one file holds.
type content struct {
	// Path is the path that the file belongs to: a file under another name is a copy.
	Path string
	// Instance is drawn when the file is first written.
	Instance string
	// Generation counts the writes of the file.
	Generation uint64
	// RecordGeneration is the generation in which the record last changed; adding a version is not such a change.
	RecordGeneration uint64
	// Last is the highest number that was given to a version; none is given twice.
	Last uint64
	// Shown is the number of the version that applications read; empty if none.
	Shown    string
	Record   store.Record
	Versions []version
}

type version struct {
	Number  string
	Value   secret.Value
	AddedAt time.Time
}

func (c *content) version(number string) *version {
	i := slices.IndexFunc(c.Versions, func(v version) bool { return v.Number == number })
	if i < 0 {
		return nil
	}
	return &c.Versions[i]
}

func (c *content) remove(number string) {
	c.Versions = slices.DeleteFunc(c.Versions, func(v version) bool { return v.Number == number })
}

// revision is what Save and Promote compare; empty before the first Save.
func (c *content) revision() string {
	if c.RecordGeneration == 0 {
		return ""
	}
	return c.Instance + "." + strconv.FormatUint(c.RecordGeneration, 10)
}

func (c *content) snapshot() store.Snapshot {
	r := c.Record
	switch {
	case c.Shown == "":
		r.Current = nil
	case r.Current == nil || r.Current.Number != c.Shown:
		r.Current = &store.Version{Number: c.Shown}
	}
	return store.Snapshot{Record: r, Revision: c.revision()}
}

// plain is the file's content before encryption: the only place where values are bytes.
type plain struct {
	Format           int            `json:"format"`
	Path             string         `json:"path"`
	Instance         string         `json:"instance"`
	Generation       uint64         `json:"generation"`
	RecordGeneration uint64         `json:"recordGeneration,omitempty"`
	Last             uint64         `json:"last"`
	Shown            string         `json:"shown,omitempty"`
	Record           store.Record   `json:"record"`
	Versions         []plainVersion `json:"versions,omitempty"`
}

type plainVersion struct {
	Number  string    `json:"number"`
	Value   []byte    `json:"value"`
	AddedAt time.Time `json:"addedAt"`
}

var (
	errDamaged = errors.New("not a whole file of this store")
	errFormat  = errors.New("written by another version of rekey")
)

// encrypt returns the bytes of a file.
func encrypt(c *content, to age.Recipient) ([]byte, error) {
	p := plain{
		Format: fileFormat, Path: c.Path, Instance: c.Instance, Generation: c.Generation, RecordGeneration: c.RecordGeneration,
		Last: c.Last, Shown: c.Shown, Record: c.Record,
	}
	for _, v := range c.Versions {
		p.Versions = append(p.Versions, plainVersion{Number: v.Number, Value: []byte(v.Value.Reveal()), AddedAt: v.AddedAt})
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// decrypt reads a file. The errors are errDamaged, errFormat, or an *age.NoIdentityMatchError.
func decrypt(file []byte, identities []age.Identity) (*content, error) {
	r, err := age.Decrypt(bytes.NewReader(file), identities...)
	if err != nil {
		if noMatch := new(age.NoIdentityMatchError); errors.As(err, &noMatch) {
			return nil, noMatch
		}
		return nil, errDamaged
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, errDamaged
	}
	return parse(text)
}

// parse reads a decrypted file and takes nothing that write could not have written.
func parse(text []byte) (*content, error) {
	var p plain
	if json.Unmarshal(text, &p) != nil {
		return nil, errDamaged
	}
	if p.Format != fileFormat {
		return nil, errFormat
	}
	c := &content{
		Path: p.Path, Instance: p.Instance, Generation: p.Generation, RecordGeneration: p.RecordGeneration,
		Last: p.Last, Shown: p.Shown, Record: p.Record,
	}
	var before uint64
	for _, v := range p.Versions {
		n, err := strconv.ParseUint(v.Number, 10, 64)
		if err != nil || n <= before || n > p.Last || strconv.FormatUint(n, 10) != v.Number || len(v.Value) == 0 {
			return nil, errDamaged
		}
		before = n
		c.Versions = append(c.Versions, version{Number: v.Number, Value: secret.New(v.Value), AddedAt: v.AddedAt})
	}
	if c.Instance == "" || c.Generation == 0 || c.RecordGeneration > c.Generation || c.Shown != "" && c.version(c.Shown) == nil {
		return nil, errDamaged
	}
	return c, nil
}
