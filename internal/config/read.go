package config

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/rekeyhq/rekey/rotation"
)

// maxFile is far more than a file of ten thousand keys has.
const maxFile = 8 << 20

// readFile reads a file of a size that rekey.yaml can have.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, Problems{{File: name, Message: "there is no such file. Name one with --config, or see docs/configuration.md for an example"}}
	} else if err != nil {
		return nil, Problems{{File: name, Message: "the file cannot be read: " + reason(err)}}
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, Problems{{File: name, Message: "the file cannot be read: " + reason(err)}}
	}
	return text, nil
}

// reason is an error of the file system without the name of the file.
func reason(err error) string {
	if inner := errors.Unwrap(err); inner != nil {
		return inner.Error()
	}
	return err.Error()
}

// read turns text into the file's form and its tree, or says what is wrong with it as a whole.
func read(name string, text []byte) (f file, tree *ast.File, _ Problems) {
	if len(text) > maxFile {
		return f, nil, Problems{{File: name, Message: fmt.Sprintf("the file is larger than %d MiB; is it a rekey.yaml?", maxFile>>20)}}
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // some editors begin UTF-8 with it
	if p := encoding(name, text); p != nil {
		return f, nil, Problems{*p}
	}
	// Before the YAML library sees the text: its messages quote it.
	if keys := pasted(name, text); len(keys) > 0 {
		return f, nil, keys
	}
	var p *Problem
	err := guarded(func() (err error) {
		if p = oneDocument(name, text); p != nil {
			return p
		}
		if tree, err = parser.ParseBytes(text, 0); err != nil {
			return err
		}
		if p = plainYAML(name, tree); p != nil {
			return p
		}
		err = yaml.NewDecoder(bytes.NewReader(text), yaml.DisallowUnknownField()).Decode(&f)
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
	switch {
	case p != nil:
		return f, nil, Problems{*p}
	case err != nil:
		return f, nil, Problems{yamlProblem(name, tree, err)}
	}
	return f, tree, nil
}

// guarded runs what the YAML library does: for some texts it panics.
func guarded(do func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the YAML library gave up")
		}
	}()
	return do()
}

// encoding reports what is wrong with the bytes of a file, at the first that is wrong.
func encoding(name string, text []byte) *Problem {
	const save = "save it as UTF-8, without control characters"
	for _, utf16 := range []string{"\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(text, []byte(utf16)) {
			return &Problem{File: name, Line: 1, Column: 1, Message: "the file is UTF-16, as some editors write it; save it as UTF-8"}
		}
	}
	line, column := 1, 1
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		at := func(format string, args ...any) *Problem {
			return &Problem{File: name, Line: line, Column: column, Message: fmt.Sprintf(format, args...)}
		}
		switch {
		case r == utf8.RuneError && size == 1:
			return at("the byte %#x is not UTF-8; %s", rest[0], save)
		case r == 0:
			return at("a NUL: this is not text, or it is UTF-16; %s", save)
		case r == '\n', r == '\t', r == '\r':
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return at("the control character %U; %s", r, save)
		case r == '\ufeff', unicode.Is(unicode.Bidi_Control, r):
			return at("the character %U, which nobody sees and which can make text look other than it is; take it out", r)
		}
		if column++; r == '\n' {
			line, column = line+1, 1
		}
		rest = rest[size:]
	}
	return nil
}

// word is what may be a value on a line.
var word = regexp.MustCompile("[^\\s\"'`,\\[\\]{}<>()]+")

// pasted finds keys in the text of a file, in comments and in what is not YAML, too.
func pasted(name string, text []byte) (found Problems) {
	for i, line := range strings.Split(string(text), "\n") {
		column, rest := 0, line
		for _, at := range word.FindAllStringIndex(line, -1) {
			w := line[at[0]:at[1]]
			if publicSSH(w) {
				rest = strings.ReplaceAll(rest, w, "")
			} else if column == 0 && keyIn(w) {
				column = utf8.RuneCountInString(line[:at[0]]) + 1
			}
		}
		if column == 0 && rotation.LooksLikeKey(rest) {
			column = 1 // not in one word: a key file in JSON
		}
		if column > 0 {
			found = append(found, Problem{File: name, Line: i + 1, Column: column, Message: keyMessage})
		}
	}
	return found
}

const keyMessage = "this looks like a key; it is not repeated, and nothing of the file was used. rekey.yaml holds no secrets: take it out, and treat that key as leaked, because whoever can read this file or its former versions has it"

// keyIn reports whether a word holds a key that is to be kept secret. An operator's public key is none.
func keyIn(w string) bool { return rotation.LooksLikeKey(w) && !publicSSH(w) }

// publicSSH reports whether a word is the base64 of a public SSH key: it begins with the length and the name of its type.
func publicSSH(w string) bool {
	head := w[:min(len(w), 48)/4*4]
	data, err := base64.StdEncoding.DecodeString(head)
	if err != nil || len(data) < 4 {
		return false
	}
	n := binary.BigEndian.Uint32(data)
	kind, ok := strings.CutSuffix(string(data[4:min(len(data), 4+int(min(n, 64)))]), "@openssh.com")
	if !ok {
		kind = strings.TrimSuffix(kind, "@op") // cut off with the head
	}
	return sshType.MatchString(kind)
}

var sshType = regexp.MustCompile(`^(sk-)?(ssh-(rsa|dss|ed25519)|ecdsa-sha2-nistp(256|384|521))`)

// oneDocument refuses what the reader of one document would leave out.
func oneDocument(name string, text []byte) *Problem {
	begun, ended, directive := false, false, 0
	for _, t := range lexer.Tokenize(string(text)) {
		at := func(message string) *Problem {
			return &Problem{File: name, Line: t.Position.Line, Column: t.Position.Column, Message: message}
		}
		switch {
		case t.Type == token.CommentType:
		case ended:
			return at(`something follows the end of the document ("..."). rekey.yaml is one document: nothing after it would count`)
		case t.Type == token.DocumentEndType:
			ended = true
		case t.Type == token.DocumentHeaderType && begun:
			return at(`a second document begins here ("---"). rekey.yaml is one document: nothing of a second one would count`)
		case t.Type == token.DirectiveType:
			directive = t.Position.Line
		case t.Position.Line != directive:
			begun = true
		}
	}
	return nil
}

// plainYAML refuses tags, which say nothing here and trip the YAML library, and keys in texts that were written with
// escapes or over several lines.
func plainYAML(name string, tree *ast.File) (p *Problem) {
	see := func(n ast.Node, message string) {
		if t := n.GetToken(); p == nil && t != nil && t.Position != nil {
			p = &Problem{File: name, Line: t.Position.Line, Column: t.Position.Column, Message: message}
		}
	}
	for _, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		ast.Walk(visitor(func(n ast.Node) {
			switch n := n.(type) {
			case *ast.TagNode:
				see(n, "a YAML tag (!); rekey.yaml needs none. A text that begins with ! needs quotes")
			case *ast.StringNode:
				if slices.ContainsFunc(word.FindAllString(n.Value, -1), keyIn) {
					see(n, keyMessage)
				}
			}
		}), doc.Body)
	}
	return p
}

type visitor func(ast.Node)

// Visit implements ast.Visitor.
func (v visitor) Visit(n ast.Node) ast.Visitor {
	v(n)
	return v
}

// yamlProblem says in one line what the YAML library found, and what to do about it.
func yamlProblem(name string, tree *ast.File, err error) Problem {
	p := Problem{File: name, Message: "this is not YAML that rekey can read"}
	var e yaml.Error
	if !errors.As(err, &e) {
		return p
	}
	p.Message = e.GetMessage()
	t := e.GetToken()
	if t == nil || t.Position == nil {
		return p
	}
	p.Line, p.Column = t.Position.Line, t.Position.Column
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		p.Message = fmt.Sprintf("there is no field %q here; docs/configuration.md lists the fields", t.Value)
		return p
	}
	for _, a := range advice {
		if a.says.MatchString(p.Message) {
			p.Message = a.advice
			break
		}
	}
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) && wrong.DstType != nil {
		p.Message = map[reflect.Kind]string{reflect.Bool: "expected true or false", reflect.String: "expected one value, not a list or a map"}[wrong.DstType.Kind()]
		if p.Message == "" {
			p.Message = e.GetMessage()
		}
	}
	if where := pathAt(tree, t.Position); where != "" {
		p.Message = where + ": " + p.Message
	}
	return p
}

// advice is what to do about what the YAML library says, which names neither.
var advice = []struct {
	says   *regexp.Regexp
	advice string
}{
	{regexp.MustCompile(`^mapping was used where sequence is expected`), `expected a list; begin each of its entries with a hyphen, like "- name: …"`},
	{regexp.MustCompile(`was used where sequence is expected`), `expected a list; begin each of its entries with a hyphen, like "- …", or write [a, b]`},
	{regexp.MustCompile(`^sequence was used where mapping is expected`), `expected fields like "name: …", not a list; take the hyphens away`},
	{regexp.MustCompile(`was used where mapping is expected`), `expected fields like "name: …", not one value`},
	{regexp.MustCompile(`^mapping value is not allowed in this context`), `a field cannot begin here. Either this line has more spaces before it than the fields beside it, or a value holds ": " and needs quotes`},
	{regexp.MustCompile(`value is not allowed in this context`), "this line begins in a column where nothing above it does; give it as many spaces as the fields that it belongs to"},
	{regexp.MustCompile(`found character '\t'`), "a tab; YAML is indented with spaces"},
	{regexp.MustCompile(`could not find end character of`), "the quotation mark that opens here is never closed"},
}

// pathAt is the place in the file, as other messages write it, of the value at a position.
func pathAt(tree *ast.File, at *token.Position) (path string) {
	if tree == nil {
		return ""
	}
	for _, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		ast.Walk(visitor(func(n ast.Node) {
			if t := n.GetToken(); path == "" && t != nil && t.Position != nil && t.Position.Line == at.Line && t.Position.Column == at.Column {
				path = strings.TrimPrefix(strings.TrimPrefix(strings.ReplaceAll(n.GetPath(), "'", ""), "$"), ".")
			}
		}), doc.Body)
	}
	return path
}
