{#
    Where our models go: `<dataset>_staging`, `<dataset>_intermediate`, `<dataset>_reports`,
    whatever the target's schema is called. dbt asks a package's own macro for the package's own
    models, so this holds as the root project and as an installed package, and leaves the
    models of an installing project alone.
#}
{% macro generate_schema_name(custom_schema_name=none, node=none) -%}
    {%- set dataset = var('crmcom_dataset', none) or crmcom_transforms.raw_schemas()[0] -%}
    {%- if custom_schema_name is none -%}
        {{ dataset }}
    {%- else -%}
        {{ dataset }}_{{ custom_schema_name | trim }}
    {%- endif -%}
{%- endmacro %}
