package durable

// RenameUnlessThere is how RenameNew works where the system has no such call.
var RenameUnlessThere = renameUnlessThere
