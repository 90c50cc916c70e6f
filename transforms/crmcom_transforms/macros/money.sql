{# An amount of a mart. The API's amounts have up to 29 digits before the point; this has 34. #}
{% macro money(amount) -%}
    cast({{ amount }} as decimal(38, 4))
{%- endmacro %}


{# An amount of the raw tables, decimal(38, 9), as an amount of a mart. #}
{% macro raw_money(amount) -%}
    {{ adapter.dispatch('raw_money', 'crmcom_transforms')(amount) }}
{%- endmacro %}

{% macro default__raw_money(amount) -%}
    {{ crmcom_transforms.money(amount) }}
{%- endmacro %}

{#
    DuckDB takes 1 µs to round a decimal of 38 digits, twenty-five times as long as one of 18,
    which holds all amounts but the extraordinary. The result is the same.
#}
{% macro duckdb__raw_money(amount) -%}
    case
        when {{ amount }} > -1000000000 and {{ amount }} < 1000000000
            then {{ crmcom_transforms.money(
                'cast(cast(' ~ amount ~ ' as decimal(18, 9)) as decimal(18, 4))'
            ) }}
        else {{ crmcom_transforms.money(amount) }}
    end
{%- endmacro %}


{# A balance of the API, turned so that a positive one is owed by the customer. #}
{% macro owed(balance) -%}
    {%- set sign = var('crmcom_balance_sign', 'positive') -%}
    {%- if sign == 'positive' -%}
        {{ balance }}
    {%- elif sign == 'negative' -%}
        -{{ balance }}
    {%- else -%}
        {{ exceptions.raise_compiler_error(
            "crmcom_balance_sign is 'positive' (a positive balance is owed by the customer) "
            ~ "or 'negative', not " ~ sign
        ) }}
    {%- endif -%}
{%- endmacro %}


{# A credit limit that limits: not below zero, and not zero where that stands for no limit. #}
{% macro effective_limit(credit_limit) -%}
    {%- set zero_means = var('crmcom_zero_credit_limit_means', 'none') -%}
    {%- if zero_means not in ('none', 'no_credit') -%}
        {{ exceptions.raise_compiler_error(
            "crmcom_zero_credit_limit_means is 'none' (zero stands for no limit) "
            ~ "or 'no_credit' (zero is a limit), not " ~ zero_means
        ) }}
    {%- endif -%}
    case when {{ credit_limit }} {{ '>=' if zero_means == 'no_credit' else '>' }} 0 then {{ credit_limit }} end
{%- endmacro %}


{# max(amount, 0); null stays null, unlike in some warehouses' greatest(). #}
{% macro positive_part(amount) -%}
    case when {{ amount }} > 0 then {{ amount }} when {{ amount }} <= 0 then 0 end
{%- endmacro %}


{# The smaller of two; null where either is, unlike in some warehouses' least(). #}
{% macro smaller_of(left, right) -%}
    case when {{ left }} <= {{ right }} then {{ left }} when {{ right }} < {{ left }} then {{ right }} end
{%- endmacro %}


{# A share; null where the whole is zero or unknown, or the share has more than 32 digits. #}
{% macro ratio(part, whole) -%}
    {{ adapter.dispatch('ratio', 'crmcom_transforms')(part, whole) }}
{%- endmacro %}

{% macro default__ratio(part, whole) -%}
    {{ crmcom_transforms.cast_or_null(part ~ ' / nullif(' ~ whole ~ ', 0)', 'decimal(38, 6)') }}
{%- endmacro %}

{#
    PostgreSQL divides whole numbers without a remainder, and forgets the digits of a `case`, which
    is why a cast stands around it.
#}
{% macro postgres__ratio(part, whole) -%}
    {%- set share = 'cast(' ~ part ~ ' as numeric) / nullif(' ~ whole ~ ', 0)' -%}
    cast(case when abs({{ share }}) < 1e32 - 1 then {{ share }} end as decimal(38, 6))
{%- endmacro %}


{#
    Spark would divide counts as floats; and in decimals of 38 digits there is room for six after the
    point.
#}
{% macro spark__ratio(part, whole) -%}
    try_divide(cast({{ part }} as decimal(38, 4)), cast({{ whole }} as decimal(38, 4)))
{%- endmacro %}


{# Text that says something: blank is null. #}
{% macro text_or_null(text) -%}
    nullif(trim({{ text }}), '')
{%- endmacro %}


{# A value as a type; null where it does not fit. #}
{% macro cast_or_null(value, type) -%}
    {{ adapter.dispatch('cast_or_null', 'crmcom_transforms')(value, type) }}
{%- endmacro %}

{% macro default__cast_or_null(value, type) -%}
    {{ dbt.safe_cast(value, type) }}
{%- endmacro %}

{# dbt takes DuckDB for a database that cannot. #}
{% macro duckdb__cast_or_null(value, type) -%}
    try_cast({{ value }} as {{ type }})
{%- endmacro %}


{#
    PostgreSQL's own reading of a text is wider than DuckDB's ('today', 'NaN', the order of day and
    month by a setting) and rounds to the microsecond: so its shape comes first. A whole number is
    made of a number.
#}
{% macro postgres__cast_or_null(value, type) -%}
    {%- if type == 'bigint' -%}
        case
            when {{ value }} between -9223372036854775808 and 9223372036854775807
                then cast({{ value }} as bigint)
        end
    {%- else -%}
        {%- set shaped = "substring(trim(" ~ value ~ ") from '" ~ crmcom_transforms.shape_of(type) ~ "')" -%}
        cast(case when pg_input_is_valid({{ shaped }}, '{{ type }}') then {{ shaped }} end as {{ type }})
    {%- endif -%}
{%- endmacro %}

{# Spark's is wider, too: '2024' is a day. And it knows no '_' between digits, no '/' in a day. #}
{% macro spark__cast_or_null(value, type) -%}
    {%- if type == 'bigint' -%}
        try_cast({{ value }} as bigint)
    {%- else -%}
        {%- set shaped = "regexp_extract(trim(" ~ value ~ "), r'" ~ crmcom_transforms.shape_of(type) ~ "', 1)" -%}
        try_cast(translate({{ shaped }}, '/_', '-') as {{ type }})
    {%- endif -%}
{%- endmacro %}


{#
    What a text of a type looks like, as a regular expression whose first group is to be cast. A zone
    comes after seconds alone.
#}
{% macro shape_of(type) -%}
    {%- set day = '\\d{4,6}[-/]\\d{1,2}[-/]\\d{1,2}' -%}
    {{ {
        'decimal': '^([+-]?(?:\\d+(?:_\\d+)*\\.?\\d*|\\.\\d+)(?:[eE][+-]?\\d+)?)$',
        'date': '^(' ~ day ~ ')(?:[ T].*)?$',
        'timestamp': '^(?=' ~ day ~ '(?:$|[ T]\\d{1,2}:\\d{1,2}(?:$|:)))'
            ~ '(' ~ day ~ '(?:[ T]\\d{1,2}:\\d{1,2}(?::\\d{1,2}(?:\\.\\d{1,6})?)?)?)'
            ~ '(?:(?<=\\.\\d{6})\\d+)?(?: ?(?:Z|UTC)|[+-]\\d{2}(?::?\\d{2})?)?$',
    }[type.split('(')[0]] }}
{%- endmacro %}


{# A text to be put in order, or of which the last is wanted: by code points, whatever the locale. #}
{% macro by_code_points(text) -%}
    {{ adapter.dispatch('by_code_points', 'crmcom_transforms')(text) }}
{%- endmacro %}

{% macro default__by_code_points(text) -%}
    {{ text }}
{%- endmacro %}

{% macro postgres__by_code_points(text) -%}
    {{ text }} collate "C"
{%- endmacro %}


{# A value as text. #}
{% macro as_text(value) -%}
    cast({{ value }} as {{ dbt.type_string() }})
{%- endmacro %}


{% macro no_text() -%}
    {{ crmcom_transforms.as_text('null') }}
{%- endmacro %}


{# The texts of a group as one, in the order of a column, with commas between them. #}
{% macro list_texts(text, order) -%}
    {{ adapter.dispatch('list_texts', 'crmcom_transforms')(text, order) }}
{%- endmacro %}

{% macro default__list_texts(text, order) -%}
    {{ dbt.listagg(measure=text, delimiter_text="', '", order_by_clause='order by ' ~ order) }}
{%- endmacro %}

{# dbt's own has no order on Spark. #}
{% macro spark__list_texts(text, order) -%}
    listagg({{ text }}, ', ') within group (order by {{ order }})
{%- endmacro %}


{# A text, in quotes. #}
{% macro text_literal(text) -%}
    {{ adapter.dispatch('text_literal', 'crmcom_transforms')(text) }}
{%- endmacro %}

{% macro default__text_literal(text) -%}
    '{{ text | replace("'", "''") }}'
{%- endmacro %}

{% macro spark__text_literal(text) -%}
    '{{ text | replace("\\", "\\\\") | replace("'", "\\'") }}'
{%- endmacro %}


{# A list of texts, for `in`. #}
{% macro text_list(texts) -%}
    (
    {%- for text in texts -%}
        {{ crmcom_transforms.text_literal(text) }}{{ ', ' if not loop.last }}
    {%- endfor -%}
    )
{%- endmacro %}


{# The days of credit in payment terms called 'Net 30', else null. #}
{% macro payment_terms_days(payment_terms) -%}
    {{ adapter.dispatch('payment_terms_days', 'crmcom_transforms')(payment_terms) }}
{%- endmacro %}

{% macro default__payment_terms_days(payment_terms) -%}
    cast(substring(lower({{ payment_terms }}) from '^\s*net\s*(\d{1,4})(?:\s|$)') as integer)
{%- endmacro %}

{% macro spark__payment_terms_days(payment_terms) -%}
    try_cast(regexp_extract(lower({{ payment_terms }}), r'^\s*net\s*(\d{1,4})(\s|$)', 1) as integer)
{%- endmacro %}

{% macro duckdb__payment_terms_days(payment_terms) -%}
    try_cast(regexp_extract({{ payment_terms }}, '^\s*net\s*(\d{1,4})(\s|$)', 1, 'i') as integer)
{%- endmacro %}
