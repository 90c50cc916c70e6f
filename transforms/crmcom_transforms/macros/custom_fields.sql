{#
    The custom fields that `crmcom_custom_fields` names for contacts or activities: a list of
    (column, key, type). A key is the column's own name unless another is given.
#}
{% macro custom_fields_of(resource) %}
    {%- set fields = [] -%}
    {%- for column, field in var('crmcom_custom_fields', {}).get(resource, {}).items() -%}
        {%- set given = {'type': field} if field is string else field -%}
        {%- if not modules.re.fullmatch('[a-z_][a-z0-9_]*', column) -%}
            {{ exceptions.raise_compiler_error(
                'crmcom_custom_fields: ' ~ column ~ ' is no name for a column: use a-z, 0-9 and _'
            ) }}
        {%- endif -%}
        {%- if given.get('type', 'text') not in
            ('text', 'integer', 'decimal', 'date', 'timestamp', 'boolean') -%}
            {{ exceptions.raise_compiler_error(
                'crmcom_custom_fields: the type of ' ~ column
                ~ ' is text, integer, decimal, date, timestamp or boolean, not ' ~ given['type']
            ) }}
        {%- endif -%}
        {%- do fields.append((column, given.get('key', column), given.get('type', 'text'))) -%}
    {%- endfor -%}
    {{ return(fields) }}
{% endmacro %}


{# A text as a type; null where it is none of that type. #}
{% macro as_type(text, type) -%}
    {%- if type == 'text' -%}
        {{ text }}
    {%- elif type == 'boolean' -%}
        case
            when lower({{ text }}) in ('true', 't', 'yes', 'y', '1') then true
            when lower({{ text }}) in ('false', 'f', 'no', 'n', '0') then false
        end
    {%- elif type == 'integer' -%}
        {#- A cast alone would round. -#}
        {%- set number = crmcom_transforms.cast_or_null(text, 'decimal(38, 9)') -%}
        case when {{ number }} = floor({{ number }}) then {{ crmcom_transforms.cast_or_null(number, 'bigint') }} end
    {%- else -%}
        {{ crmcom_transforms.cast_or_null(text, 'decimal(38, 9)' if type == 'decimal' else type) }}
    {%- endif -%}
{%- endmacro %}


{# The value of a group that has one at most. #}
{% macro only_value(value, type) -%}
    {{ adapter.dispatch('only_value', 'crmcom_transforms')(value, type) }}
{%- endmacro %}

{% macro default__only_value(value, type) -%}
    max({{ value }})
{%- endmacro %}

{% macro postgres__only_value(value, type) -%}
    {%- if type == 'decimal' -%}
        {#- An aggregate forgets the digits. -#}
        cast(max({{ value }}) as decimal(38, 9))
    {%- else -%}
        {{ 'bool_or' if type == 'boolean' else 'max' }}({{ value }})
    {%- endif -%}
{%- endmacro %}


{#
    Rows of keys and values as one row per `id`, with a column for each named field. Of several
    values of a key the first that is not blank holds.
#}
{% macro pivot_custom_fields(relation, id, fields) -%}
    {%- set typed = {} -%}
    {%- for column, key, type in fields -%}
        {%- do typed.update({column: (
            'custom_field_key = ' ~ crmcom_transforms.text_literal(key),
            crmcom_transforms.as_type('custom_field_value', type),
            type,
        )}) -%}
    {%- endfor -%}
    select
        source_relation,
        {{ id }},
        {%- for column, (is_field, value, type) in typed.items() %}
        {{ crmcom_transforms.only_value('case when ' ~ is_field ~ ' then ' ~ value ~ ' end', type) }} as {{ column }},
        {%- endfor %}
        cast(sum(
            case
                {%- for is_field, value, _ in typed.values() %}
                when {{ is_field }} and {{ value }} is null then 1
                {%- endfor %}
                else 0
            end
        ) as integer) as unreadable_custom_fields
    from (
        select
            source_relation,
            {{ id }},
            custom_field_key,
            {{ crmcom_transforms.text_or_null('custom_field_value') }} as custom_field_value,
            row_number() over (
                partition by source_relation, {{ id }}, custom_field_key
                order by position
            ) as place
        from {{ crmcom_transforms.without_catalog(relation) }}
        where {{ crmcom_transforms.text_or_null('custom_field_value') }} is not null
    ) as named_fields
    where place = 1
    group by source_relation, {{ id }}
{%- endmacro %}
