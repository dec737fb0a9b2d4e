package mysql

import (
	"strings"

	"github.com/pingcap/tidb/pkg/parser/ast"
)

// isFunction reports whether a function of the server only computes from its
// arguments, the clock, chance and the session.
//
// It is a list of what is allowed, for the others do a lot: SLEEP and BENCHMARK
// take time, GET_LOCK and its kind keep others waiting, LOAD_FILE reads files,
// NEXTVAL writes, and a loaded or stored function does anything. The names are
// those of the servers' manuals, and of the parser where it has its own
// (char_func for CHAR). One that a server has not got would be a stored function
// there: who may make such a function may do more than read.
func isFunction(name string) bool {
	switch name {
	case ast.DateLiteral, ast.TimeLiteral, ast.TimestampLiteral: // which the parser makes functions of
		return true
	}
	return functions[name] || strings.HasPrefix(name, "st_") || strings.HasPrefix(name, "mbr")
}

var functions = func() map[string]bool {
	m := map[string]bool{}
	for name := range strings.FieldsSeq(functionNames) {
		m[name] = true
	}
	return m
}()

const functionNames = `
	coalesce greatest least interval if ifnull nullif nvl nvl2 decode_oracle isnull any_value grouping default_func row
	abs acos asin atan atan2 ceil ceiling conv cos cot crc32 crc32c degrees exp floor ln log log2 log10 mod pi pow power
	radians rand round sign sin sqrt tan truncate bit_count
	adddate addtime add_months convert_tz curdate current_date current_time current_timestamp curtime date date_add date_format
	date_sub datediff day dayname dayofmonth dayofweek dayofyear extract from_days from_unixtime get_format hour last_day
	localtime localtimestamp makedate maketime microsecond minute month monthname months_between now period_add period_diff quarter
	sec_to_time second str_to_date subdate subtime sysdate time time_format time_to_sec timediff timestamp timestampadd
	timestampdiff to_char to_days to_seconds unix_timestamp utc_date utc_time utc_timestamp week weekday weekofyear year yearweek
	ascii bin bit_length char_func char char_length character_length charset chr coercibility collation concat concat_ws
	concat_operator_oracle convert elt export_set field find_in_set format from_base64 hex insert_func insert instr lcase left length
	lengthb locate lower lpad ltrim make_set mid natural_sort_key oct octet_length ord position quote regexp_instr regexp_like
	regexp_replace regexp_substr repeat replace reverse right rpad rtrim sformat soundex space strcmp substr substring
	substring_index to_base64 translate trim ucase unhex upper weight_string
	connection_id current_role current_user database found_rows last_insert_id schema session_user system_user user version
	inet_aton inet_ntoa inet6_aton inet6_ntoa is_ipv4 is_ipv4_compat is_ipv4_mapped is_ipv6 is_uuid
	uuid uuid_short uuid_to_bin bin_to_uuid uuid_v4 uuid_v7 sys_guid rownum format_bytes format_pico_time
	aes_decrypt aes_encrypt compress kdf md5 random_bytes sha sha1 sha2 uncompress uncompressed_length
	extractvalue updatexml
	json_array json_array_append json_array_insert json_array_intersect json_compact json_contains json_contains_path json_depth
	json_detailed json_equals json_exists json_extract json_insert json_key_value json_keys json_length json_loose json_memberof
	json_merge json_merge_patch json_merge_preserve json_normalize json_object json_object_filter_keys json_object_to_array
	json_overlaps json_pretty json_query json_quote json_remove json_replace json_schema_valid json_schema_validation_report
	json_search json_set json_storage_free json_storage_size json_type json_unquote json_valid json_value
	geometrycollection geometryfromtext geomfromtext geomfromwkb glength linestring multilinestring multipoint multipolygon point
	polygon pointfromtext polygonfromtext astext asbinary aswkb aswkt centroid contains crosses dimension disjoint distance endpoint envelope
	equals exteriorring geometryn geometrytype interiorringn intersects isclosed isempty isring issimple numgeometries
	numinteriorrings numpoints overlaps pointn srid startpoint touches within x y
	vec_distance vec_distance_cosine vec_distance_euclidean vec_fromtext vec_totext distance_cosine string_to_vector vector_to_string
	vector_dim
`
