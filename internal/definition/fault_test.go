package definition_test

import (
	"errors"
	"strings"
	"testing"

	"dreamfeed/internal/definition"
)

// malformed is the bookshop's definition with one text replaced. The sign § in
// the new text marks the line of the fault and is taken out.
type malformed struct {
	name     string
	old, new string
	want     string
}

// end stands for the end of the file in malformed.old.
const end = ""

func structureFaults() []malformed {
	return []malformed{
		{"an unknown key", "cleaning:\n", "§cleanin:\n", `unknown key "cleanin", did you mean "cleaning"? in the definition`},
		{"an unknown key within", "{table: readers}", "{table: readers, §were: 'true'}", `unknown key "were", did you mean "where"? in row reader`},
		{"a duplicate key", end, "\n§name: twice\n", `duplicate key "name" of the definition, first on line 4`},
		{"a duplicate column", "  city: {type", "  §shown: {type: string}\n  city: {type", `duplicate key "shown" of columns, first on line 71`},
		{"another format", "format: 1", "§format: 2", `format "2" is not known to this program, which reads format 1`},
		{"a format that is a list", "format: 1", "§format: [1]", `format "" is not known to this program, which reads format 1`},
		{"a name with a space", "name: bookshop", "§name: book shop", `the name of the definition must be letters, digits and underscores, at most 63, and not begin with a digit: "book shop"`},
		{"an unknown zone", end, "\n§timezone: Europe/Berlyn\n", `unknown timezone "Europe/Berlyn": give a name of the IANA data base such as UTC or Europe/Berlin`},
		{"a zone that depends on the machine", end, "\n§timezone: Local\n", `unknown timezone "Local": give a name of the IANA data base such as UTC or Europe/Berlin`},
		{"no YAML", "name: bookshop", "name: bookshop\n§ - : [", `no valid YAML: `},
		{"two documents", "format: 1", "§format: 1\n---\nformat: 1", `the file must hold one YAML document`},
		{"a list for a mapping", "entities:\n", "entities:\n  - §a\nentitie:\n", `entities must be a mapping of keys to values`},
		{"an entity without doc", "title: {doc: A title of the shop.}", "§title: {}", `entity title lacks "doc"`},
	}
}

func sourceFaults() []malformed {
	return []malformed{
		{"an unknown type of a source column", "pages: int,", "§pages: integer,", `unknown type "integer", did you mean "int"?`},
		{"an unknown entity", "entity: title", "§entity: titel", `unknown entity "titel", did you mean "title"? in table titles`},
		{"a key that is not in columns", "key: isbn", "§key: isb", `unknown column "isb", did you mean "isbn"? of table titles in key of table titles`},
		{"a by that is not in columns", "by: isbn", "§by: isbm", `unknown column "isbm", did you mean "isbn"? of table titles in by of table titles`},
		{"a created that is not in columns", "created: shown_at", "§created: showed_at", `unknown column "showed_at", did you mean "shown_at"? of table offers in created of table offers`},
		{"an updated that is no timestamp", "created: shown_at", "§updated: relevance", `updated of table offers must be a timestamp column, offers.relevance is float`},
		{"a table without key", "    key: isbn\n", "", `table titles lacks "key"`},
		{"an entity without by", "    by: isbn\n", "", `table titles, which has an entity, lacks "by"`},
		{"a by without entity", "    entity: title\n    by: isbn", "    §by: isbn", `by of table titles says whose its rows are, but the table has no entity`},
		{"a table under two names", "  titles:\n", "  visits: {key: id, columns: {id: int}}\n  titles:\n", `table public.visits is table public.visits of line 17 again`},
		{"a table with three parts", "  titles:\n", "  §a.b.c: {key: id, columns: {id: int}}\n  titles:\n", `table "a.b.c" must be written schema.table, or table when it is in schema public`},
		{"a column with a dot", "pages: int,", "pages: int, §a.b: int,", `column "a.b" of table titles has a dot in its name, which cannot be referred to`},
		{"an example in an unknown table", "  table: offers\n  id", "  §table: offer\n  id", `unknown table "offer", did you mean "offers"? in table of example`},
		{"an example that is not one row", "  id: id\n  time", "  §id: isbn\n  time", `id of example must be the key of table offers, which is id`},
		{"a moment that is no timestamp", "time: shown_at\n  outcome", "§time: relevance\n  outcome", `time of example must be a timestamp column, offers.relevance is float`},
		{"a moment that is an outcome", "outcome: [opened_at, taken_at]", "§outcome: [opened_at, taken_at, shown_at]", `shown_at of example is fixed when the example comes to be: it cannot be an outcome column`},
		{"an item that is the id", "time: shown_at\n  outcome", "time: shown_at\n  item: §id\n  outcome", `item of example is what it shows: column id is its id, its time, its reader or its outcome`},
		{"an item that is no column", "time: shown_at\n  outcome", "time: shown_at\n  item: §isbm\n  outcome", `unknown column "isbm", did you mean "isbn"?`},
		{"a maturity without unit", "maturity: 48h", "§maturity: 48", `maturity of example must be a length of time above zero, such as 90d, 12h, 30m or 10s`},
		{"a need of an unknown row", "{no_reader: reader}", "§{no_reader: raeder}", `unknown row "raeder", did you mean "reader"? in need no_reader`},
		{"a need with the name of a step", "{no_reader: reader}", "§{train: reader}", `reason "train" is a step of the funnel already: give it another name`},
		{"a row named example", "  reader: {table: readers}", "  reader: {table: readers}\n  §example: {table: readers}", `row "example" has a name with a meaning of its own: give it another`},
		{"a row of another entity without match", "{table: titles, match: {isbn: example.isbn}}", "§{table: titles}", `rows of table titles in row title do not belong to the example's entity reader: find one by match`},
		{"a row with match and last", "{table: public.visits, last: at}", "{table: public.visits, last: at, match: {id: example.reader}}", `row last_visit has both match and last: it is found by its columns or as the newest event, not both`},
		{"a match of two types", "match: {isbn: example.isbn}", "§match: {isbn: example.reader}", `match of row title compares text column isbn with int column example.reader`},
		{"a match with another row", "match: {isbn: example.isbn}", "§match: {isbn: reader.city}", `match of row title compares with a column of the example, such as example.id: "reader.city" is none`},
		{"a match without a column", "match: {isbn: example.isbn}", "§match: [{}]", `an alternative of match of row title has no column`},
		{"a last that is no timestamp", "last: at", "§last: id", `last of row last_visit must be a timestamp column, public.visits.id is int`},
	}
}

func labelFaults() []malformed {
	return []malformed{
		{"outcomes without a catch-all", "    - {name: IGNORED, score: 0}", "    - §{name: IGNORED, score: 0, moment: taken_at}", `the last outcome, "IGNORED", must hold for all other examples: it has neither statuses nor moment`},
		{"a catch-all in the middle", "    - {name: OPENED, score: 0.5, moment: opened_at}", "    - §{name: OPENED, score: 0.5}", `outcome "OPENED" has neither statuses nor moment: it holds always, so it must be the last`},
		{"an outcome twice", "{name: OPENED, score: 0.5", "§{name: TAKEN, score: 0.5", `outcome "TAKEN" stands twice`},
		{"one outcome", "    - {name: TAKEN, score: 2, moment: taken_at}\n    - {name: OPENED, score: 0.5, moment: opened_at}\n", "", `there must be 2 to 255 outcomes, not 1`},
		{"an unknown goal", "goal: TAKEN", "§goal: TOKEN", `unknown outcome "TOKEN", did you mean "TAKEN"? in goal of labels`},
		{"an unknown sampled", "sampled: IGNORED", "§sampled: IGNORE", `unknown outcome "IGNORE", did you mean "IGNORED"? in sampled of labels`},
		{"a sampled goal", "sampled: IGNORED", "§sampled: TAKEN", `outcome "TAKEN" is the goal: it cannot be sampled, all of its examples stay`},
		{"a moment that is not read late", "moment: opened_at", "§moment: shown_at", `moment of outcome OPENED is column shown_at, which must be in the example's outcome list, since it is read from the last version`},
		{"statuses without a status", "score: 0.5, moment", "score: 0.5, §statuses: [X], moment", `outcome OPENED has statuses, but labels name no status column`},
		{"a score that is no number", "score: 0.5", "§score: .nan", `score of an outcome must be a finite number`},
		{"a text under two labels", "back: [POETRY", "§back: [NOVEL, POETRY", `"NOVEL" stands under label "front" already`},
	}
}

func columnFaults() []malformed {
	city := "{type: string, value: reader.city, class: quasi, doc: City of the reader.}"
	return []malformed{
		{"a column without class", city, "{type: string, value: reader.city, doc: City.}", `column city has no class: an unclassified column is refused, not released`},
		{"a column without doc", city, "{type: string, value: reader.city, class: quasi}", `column city lacks "doc"`},
		{"a column without type", city, "{value: reader.city, class: quasi, doc: City.}", `column city lacks "type"`},
		{"a column without derivation", city, "{type: string, class: quasi, doc: City.}", `column city does not say how it comes about: give it one of value or element`},
		{"a column with two derivations", city, "{type: string, value: reader.city, §constant: x, class: quasi, doc: City.}", `column city has both value and constant: it comes about in one way`},
		{"an unknown class", "class: quasi, doc: City", "§class: quasy, doc: City", `unknown class "quasy", did you mean "quasi"?`},
		{"an unknown type", "{type: string, value: reader.city", "{§type: text, value: reader.city", `unknown type "text", known are string, float32, int32, bool, timestamp`},
		{"an unknown role", "class: quasi, doc: City", "class: quasi, §role: input, doc: City", `unknown role "input", known are id, time, feature, label, quality`},
		{"an unknown row", "value: reader.city", "§value: raeder.city", `unknown row "raeder", did you mean "reader"? in value of column city`},
		{"an unknown column", "value: reader.city", "§value: reader.town", `unknown column "town", known are id, born, city of reader (table readers) in value of column city`},
		{"an unknown value", "of: age, bins", "§of: aeg, bins", `unknown value or column "aeg", did you mean "age"? in bins of column generation (a column of a row is written row.column)`},
		{"a forward reference", "of: age, bins", "§of: hour, bins", `bins of column generation refers to "hour", which does not stand above it`},
		{"a value that refers to a column", "{type: int32, value: title.pages, doc: Pages of the offered title.}", "{type: int32, §value: pages, doc: Pages.}", `value of value last_offer_pages refers to "pages", which does not stand above it`},
		{"a value with a class", "age: reader.born, doc", "age: reader.born, §class: quasi, doc", `value age has class, which is for columns: a value is never released`},
		{"a column with the name of a value", "  city: {type", "  §age: {type: string}\n  city: {type", `column age has the name of a value on line`},
		{"a value of another type", "value: reader.city", "§value: reader.born", `value of column city: reader.born is timestamp, a string column takes text or int`},
		{"an element of a text", "value: reader.city", "element: §{from: reader.city, index: 0, length: 8}", `element of column city needs json, reader.city is text`},
		{"a lookup of a number", "lookup: {of: title.genre", "lookup: §{of: title.pages", `lookup of column shelf needs text, title.pages is int`},
		{"an unknown map", "map: shelf", "§map: shelves", `unknown map "shelves", the only one is shelf in lookup of column shelf`},
		{"a mean of a text", "column: relevance, time", "§column: isbn, time", `column of mean of column mean_relevance must be a float or int column, offers.isbn is text`},
		{"a mean without column", "column: relevance, time", "time", `mean of column mean_relevance lacks "column"`},
		{"a time between numbers", "between: {from: example.shown_at", "between: §{from: example.relevance", `between of column hours_to_reaction needs timestamp, example.relevance is float`},
		{"an unknown unit", "row: last_visit, unit: hours", "row: last_visit, §unit: weeks", `unknown unit "weeks", known are days, hours, minutes, seconds`},
		{"a time since a row without event", "row: last_visit, unit", "§row: reader, unit", `since of column hours_since_visit needs a row that is found by last, since its event is what time has passed from: reader is not`},
		{"a window of zero", "window: 7d", "§window: 0d", `window of count of column visits must be a length of time above zero, such as 90d, 12h, 30m or 10s`},
		{"a window without time", "time: at, window", "§window", `count of column visits has a window but no time: say which column tells when its rows happened`},
		{"a count of another entity's rows", "count: {table: public.visits", "count: §{table: titles", `rows of table titles in count of column visits do not belong to the example's entity reader: find one by match`},
		{"a member of another type", "column: isbn, equals: title.isbn", "column: reader, §equals: title.isbn", `member of column offered_before compares int column reader with text title.isbn`},
		{"an output of another type", "{type: int32, count: {table: public.visits", "{type: float32, §count: {table: public.visits", `count of column visits gives int32, the column's type is float32`},
		{"a reversed clip", "clip: [1, 2000]", "§clip: [2000, 1]", `clip of column pages is reversed: 2000 is above 1`},
		{"a clip of a text", "value: reader.city,", "value: reader.city, §clip: [0, 1],", `clip of column city: only numbers are clipped, its type is string`},
		{"a broken clip of an integer", "clip: [1, 2000]", "§clip: [0.5, 2000]", `clip of column pages, whose type is int32, must be whole numbers`},
		{"a required column with a missing rule", "value: example.relevance, required: true,", "value: example.relevance, required: true, §missing: null,", `column relevance is required: rows that lack it are dropped, so it has no missing rule`},
		{"a missing rule of another type", "value: reader.city,", "value: reader.city, §missing: median,", `missing: median does not fit column city, whose type is string`},
		{"a label that is made up", "negative: null},", "negative: null}, §missing: median,", `column hours_to_reaction is a label: a missing one must not be made up, so missing can only be null`},
		{"bins that overlap", "bins: {young: [null, 29]", "§bins: {young: [null, 30]", `bins "young" and "middle" in bins of column generation overlap`},
		{"a reversed bin", "middle: [30, 59]", "§middle: [59, 30]", `bin "middle" in bins of column generation is reversed: 59 is above 30`},
		{"a part that is out of range", "{type: int32, part: {of: example.shown_at, part: hour}", "{type: bool, part: {of: example.shown_at, part: hour, §in: [24]}", `in of part of column hour: a hour is 0 to 23, not 24`},
		{"an unknown part", "part: hour}", "§part: hours}", `unknown part "hours", did you mean "hour"?`},
		{"a constant of another type", "{type: string, constant: letter", "{type: int32, §constant: letter", `constant of column channel, "letter", is no int32`},
		{"a list that is not joined", "value: reader.city,", "value: reader.city, §list: true,", `list of column city: only a joined column holds several elements`},
	}
}

func privacyFaults() []malformed {
	alias := "  rating: {alias: worth}"
	return []malformed{
		{"a direct column that is no pseudonym", "value: reader.city, class: quasi", "value: reader.city, §class: direct", `column city has class direct: direct identifiers leave only as pseudonyms`},
		{"a pseudonym that is not direct", "required: true, class: direct, role: id, doc: Keyed pseudonym of the reader.", "required: true, §class: quasi, role: id, doc: Keyed.", `column reader_hash is a pseudonym: its class must be direct, not quasi`},
		{"an identifier as a value", "value: reader.city", "§value: example.reader", `value of column city reads example.reader, which identifies one reader: identifiers leave only as pseudonyms`},
		{"an identifier in an expression", `cel: title.pages > 400 && title.genre != "POETRY"`, "§cel: example.reader % 2 == 0", `cel of column long_read reads example.reader, which identifies one reader: identifiers leave only as pseudonyms`},
		{"a pseudonym of something else", "{of: example.id, length: 24}", "§{of: example.isbn, length: 24}", `pseudonym of column offer_hash is made of the example's id or its entity's, example.id or example.reader, not of example.isbn`},
		{"a short pseudonym", "length: 24", "§length: 8", `length of pseudonym of column offer_hash must be 16 to 64 hex digits: shorter ones collide`},
		{"a feature that is an outcome", "{type: timestamp, value: example.shown_at, required: true, class: time, role: time", "{type: timestamp, value: example.taken_at, class: time, §role: time", `column shown has role time but tells the outcome by example.taken_at: a trainer would learn from what happened later (role label releases it)`},
		{"a feature by way of an expression", "cel: double(pages) * example.relevance", "cel: 'example.taken_at == null ? 0.0 : 1.0'", `column weighted_pages has role feature but tells the outcome by example.taken_at: a trainer would learn from what happened later (role label releases it)`},
		{"a feature by way of a label", alias, alias + "\n  §late: {type: float32, value: worth, class: safe, doc: Late.}", `column late has role feature but tells the outcome by the label: a trainer would learn from what happened later (role label releases it)`},
		{"a label with another role", "label: name, class: sensitive, role: label", "label: name, class: sensitive, §role: feature", `column outcome is a part of the label: its role must be label, not feature`},
		{"a quality as a feature", "quality: exact, class: safe, role: quality", "quality: exact, class: safe, §role: feature", `column exact is a quality of the row: its role must be quality, not feature`},
		{"a copy of a pseudonym", alias, alias + "\n  late: {type: string, §value: reader_hash, class: quasi, doc: Late.}", `value of column late refers to "reader_hash", which is only made when the dataset is written`},
		{"an alias of an alias", alias, alias + "\n  again: {§alias: rating}", `column again is an alias of alias rating: name its column, worth`},
		{"an alias of a value", alias, alias + "\n  again: {§alias: age}", `column again is a copy of value age, and values are never released`},
		{"an alias of what is below", "  rating: {alias: worth}", "  rating: {§alias: zeta}\n  zeta: {alias: worth}", `column rating is a copy of "zeta", which stands below it: aliases come after their columns`},
		{"an alias with a class", alias, "  rating: {alias: worth, §class: safe}", `column rating is an alias: it has class of its column and none of its own`},
		{"a role alias without alias", "value: reader.city,", "value: reader.city, §role: alias,", `unknown role "alias", known are id, time, feature, label, quality`},
		{"rare users below one", "min_users: 5", "§min_users: 0", `min_users of rare must be a whole number from 1 on`},
		{"a word for rare that means missing", "other: REST", "§other: UNKNOWN", `other of rare must be a word without comma that is not UNKNOWN, which means missing`},
		{"a group that is not quasi", "of: [generation, city]", "§of: [generation, shelf]", `column shelf of groups has class catalogue: groups are made of quasi columns`},
		{"a pseudonym twice", alias, alias + "\n  late: {type: string, §pseudonym: example.reader, class: direct, role: id, doc: Late.}", `pseudonym of column late repeats column reader_hash, the pseudonym of example.reader: make it an alias`},
		{"a pseudonym as a value", "age: reader.born, doc", "§pseudonym: example.reader, doc", `value age is a pseudonym, which is only made when the dataset is written: make it a column`},
		{"a time that is none", "value: reader.city, class: quasi", "value: reader.city, §class: time", `column city has class time: its type must be timestamp, not string`},
		{"a chart of pseudonyms", "{title: Worth, kind: bars, column: worth}", "§{title: Worth, kind: bars, column: reader_hash}", `chart Worth shows values of reader_hash, which has class direct`},
	}
}

func policyFaults() []malformed {
	return []malformed{
		{"an outlier of a text", "of: [age, last_offer_pages]", "§of: [age, city]", `an outlier must be a float32 or int32 column, city is string`},
		{"an unknown outlier", "of: [age, last_offer_pages]", "§of: [age, last_offer_page]", `unknown column "last_offer_page", did you mean "last_offer_pages"? in an outlier`},
		{"an outlier that is an alias", "of: [age, last_offer_pages]", "§of: [age, rating]", `an outlier is rating, an alias: name its column, worth`},
		{"an outlier that is a weight", "of: [age, last_offer_pages]", "§of: [age, weight]", `an outlier is weight, which is only made when the dataset is written`},
		{"deviations of zero", "deviations: 2.5", "§deviations: 0", `deviations of outliers must be above zero`},
		{"a statistic of a value", "mean: taken", "§mean: age", `mean of metadata taken_rate is age, a value, and values are never released: name a column`},
		{"a statistic of two kinds", "taken_rate: {mean: taken}", "§taken_rate: {mean: taken, distribution: taken}", `metadata taken_rate must have either distribution or mean`},
		{"an unknown chart", "kind: histogram", "§kind: pie", `unknown kind of chart "pie", known are bars, histogram, rate`},
		{"a histogram of texts", "kind: histogram, column: pages", "kind: histogram, §column: city", `chart Pages must be a float32 or int32 column, city is string`},
		{"a reversed rate", "rate: [0.01, 0.9]", "§rate: [0.9, 0.01]", `rate is reversed: 0.9 is above 0.01`},
		{"a share over one", "rate: [0.01, 0.9]", "rate: [0.01, 0.9]\n  §class_share: 80", `class_share must be a share from 0 to 1`},
		{"a size without unit", "rate: [0.01, 0.9]", "rate: [0.01, 0.9]\n  §train_size: 10", `train_size must be a size such as 10MB, 512KB or 100B`},
		{"a field of a text", "genre: title.genre", "§genre: title.genre.main", `title.genre.main in uniform genre takes a field of title.genre, which is text: only json has fields`},
		{"an unknown column of a path", "genre: title.genre", "§genre: title.gender", `unknown column "gender", did you mean "genre"? of title (table titles) in uniform genre`},
		{"a default window of zero", "window: 30d\n", "§window: 0d\n", `window of defaults must be a length of time above zero, such as 90d, 12h, 30m or 10s`},
	}
}

func expressionFaults() []malformed {
	long := `    cel: title.pages > 400 && title.genre != "POETRY"`
	return []malformed{
		{"a filter that is no expression", "where: row.relevance >= 0.5", "§where: row.relevance >=", `where of count of column offers_before at character 17: Syntax error`},
		{"a filter over an unknown column", "where: row.relevance >= 0.5", "§where: row.relevanc >= 0.5", `unknown column "relevanc", did you mean "relevance"? of table offers in where of count of column offers_before`},
		{"a filter over another row", "where: row.relevance >= 0.5", "§where: title.pages >= 5", `where of count of column offers_before at character 1: undeclared reference to 'title'`},
		{"a filter of two types", "where: row.relevance >= 0.5", "§where: row.isbn >= 5", `where of count of column offers_before at character 10: found no matching overload for '_>=_' applied to '(wrapper(string), int)'`},
		{"a filter that is no condition", "where: row.relevance >= 0.5", "§where: row.relevance + 0.5", `where of count of column offers_before must give bool, it gives double`},
		{"a filter over a whole row", "where: row.relevance >= 0.5", "§where: row == null", `where of count of column offers_before: row is a row: name one of its columns, row.column`},
		{"has() over a column", "where: row.relevance >= 0.5", "§where: has(row.relevance)", `where of count of column offers_before: has(row.relevance) is for fields of JSON objects: write row.relevance != null`},
		{"an expression of another type", long, "    §cel: title.pages", `cel of column long_read must give bool, it gives wrapper(int)`},
		{"an expression over an unknown row", long, "    §cel: titel.pages > 4", `cel of column long_read at character 1: undeclared reference to 'titel'`},
		{"an expression over an unknown column", long, "    §cel: title.page > 4", `unknown column "page", did you mean "pages"? of title (table titles) in cel of column long_read`},
		{"an expression over what is below", long, "    §cel: weight > 4.0", `cel of column long_read refers to "weight", which does not stand above it`},
		{"an expression of many lines", long, "    cel: |\n      title.pages > 400 &&\n      §title.genre + 1", `cel of column long_read: found no matching overload for '_+_' applied to '(wrapper(string), int)'`},
		{"an unknown function", long, "    §cel: sqrt(title.pages) > 4", `cel of column long_read at character 5: undeclared reference to 'sqrt'`},
		{"a long expression", long, "    §cel: " + strings.Repeat("1 + ", 2000) + "1 > 0", `cel of column long_read: expression code point size exceeds limit`},
	}
}

func TestAMalformedDefinitionIsRefusedWithItsLine(t *testing.T) {
	source := string(bookshop(t))
	groups := map[string][]malformed{
		"structure": structureFaults(), "source": sourceFaults(), "labels": labelFaults(), "columns": columnFaults(),
		"privacy": privacyFaults(), "policy": policyFaults(), "expressions": expressionFaults(),
	}
	for group, cases := range groups {
		for _, c := range cases {
			t.Run(group+"/"+c.name, func(t *testing.T) {
				text := source + c.new
				if c.old != end {
					if n := strings.Count(source, c.old); n != 1 {
						t.Fatalf("%q stands %d times in the file", c.old, n)
					}
					text = strings.Replace(source, c.old, c.new, 1)
				}
				line := 0
				if before, after, ok := strings.Cut(text, "§"); ok {
					text, line = before+after, 1+strings.Count(before, "\n")
				}
				check(t, text, line, c.want)
			})
		}
	}
}

// check loads a text that must have the wanted fault, on the line if it is not 0.
func check(t *testing.T, text string, line int, want string) {
	t.Helper()
	d, err := definition.Load([]byte(text), "bad.yaml")
	var faults *definition.Errors
	if d != nil || !errors.As(err, &faults) || len(*faults) == 0 {
		t.Fatalf("loaded: %v, error %v", d != nil, err)
	}
	for _, f := range *faults {
		if strings.HasPrefix(f.Message, want) && (line == 0 || f.Line == line) {
			return
		}
	}
	t.Errorf("want line %d: %s\ngot:\n%v", line, want, err)
}
