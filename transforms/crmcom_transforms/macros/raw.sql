{# The raw datasets, one a tenant, as a list. #}
{% macro raw_schemas() %}
    {%- set schemas = var('crmcom_schema', 'crmcom') -%}
    {{ return([schemas] if schemas is string else schemas) }}
{% endmacro %}


{#
    One raw table of every tenant: `source_relation` and the columns that the sources declare,
    in their declared types. A table or a column that a tenant's loader has not made yet is
    empty rather than an error.
#}
{% macro raw(table) -%}
    {%- set declared = source('crmcom', table) -%}
    {%- if not execute -%}
        select * from {{ declared }}
    {%- else -%}
        {%- do crmcom_transforms.check_engine() -%}
        {%- set columns = crmcom_transforms.declared_columns(table) -%}
        {%- for schema in crmcom_transforms.raw_schemas() %}
    select
        cast('{{ schema }}' as {{ dbt.type_string() }}) as source_relation
            {%- set relation = adapter.get_relation(
                database=declared.database, schema=schema, identifier=declared.identifier
            ) -%}
            {%- set present = [] -%}
            {%- if relation is not none -%}
                {%- for column in adapter.get_columns_in_relation(relation) -%}
                    {%- do present.append(column.name | lower) -%}
                {%- endfor -%}
            {%- endif -%}
            {%- for column in columns %}
        , cast({{ adapter.quote(column.name) if column.name in present else 'null' }} as {{ api.Column.translate_type(column.data_type) }}) as {{ adapter.quote(column.name) }}
            {%- endfor %}
            {%- if relation is none %}
    where 1 = 0
            {%- else %}
    from {{ crmcom_transforms.without_catalog(relation) }}
            {%- endif %}
            {%- if not loop.last %}
    union all
            {%- endif %}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}


{% macro declared_columns(table) %}
    {%- for node in graph.sources.values() -%}
        {%- if node.package_name == 'crmcom_transforms' and node.name == table -%}
            {{ return(node.columns.values() | list) }}
        {%- endif -%}
    {%- endfor -%}
    {{ exceptions.raise_compiler_error('no source is declared for the raw table ' ~ table) }}
{% endmacro %}


{#
    A relation as a view may name it. DuckDB keeps a view's text as it was written, and looks
    names without a catalog up in the view's own file: a view without catalog names survives
    the renaming of its file and any alias it is attached under.
#}
{% macro without_catalog(relation) -%}
    {{ return(adapter.dispatch('without_catalog', 'crmcom_transforms')(relation)) }}
{%- endmacro %}

{% macro default__without_catalog(relation) -%}
    {{ return(relation) }}
{%- endmacro %}

{% macro duckdb__without_catalog(relation) -%}
    {{ return(relation.include(database=(relation.database != target.database))) }}
{%- endmacro %}
