package triggers

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
)

// errAmbiguous is an object with a field that appears twice, or whose name is written in different cases.
var errAmbiguous = errors.New("a field appears twice, or in different cases")

// exact reads JSON into a struct as encoding/json does, but refuses what that takes all the same: a field twice, of which
// the last would count, and names in other cases. Whoever looked at the text before could have read something else in it.
func exact(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return err
	}
	return unambiguous(json.NewDecoder(bytes.NewReader(data)), reflect.TypeOf(into).Elem())
}

// unambiguous reads the next value, which is valid JSON, against the type that it is for.
func unambiguous(d *json.Decoder, kind reflect.Type) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return skip(d, t)
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		field, fits := fieldOf(kind, name.(string)) // names are texts
		if !fits || field != nil && seen[name.(string)] {
			return errAmbiguous
		}
		seen[name.(string)] = true
		var inner reflect.Type
		if field != nil {
			inner = field.Type
		}
		if err := unambiguous(d, inner); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// fieldOf is the field of a struct that a name means; nil if it means none. fits is false if encoding/json would take the
// name for that of a field and it is another.
func fieldOf(kind reflect.Type, name string) (field *reflect.StructField, fits bool) {
	if kind == nil || kind.Kind() != reflect.Struct {
		return nil, true
	}
	for f := range kind.Fields() {
		switch tag := f.Tag.Get("json"); {
		case tag == "":
		case tag == name:
			return &f, true
		case strings.EqualFold(tag, name):
			return nil, false
		}
	}
	return nil, true
}

// skip reads the rest of a value that begins with t and is not an object.
func skip(d *json.Decoder, t json.Token) error {
	if t != json.Delim('[') {
		return nil
	}
	for d.More() {
		if err := unambiguous(d, nil); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}
