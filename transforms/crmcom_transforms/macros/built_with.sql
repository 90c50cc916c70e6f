{#
    The variables that say what the reports mean, as JSON in a text; not what they are made of, nor
    as of when.
#}
{% macro built_with() -%}
    {%- set found = {} -%}
    {%- for name in [
        'crmcom_schema', 'crmcom_report_timezone', 'crmcom_balance_sign', 'crmcom_ageing_buckets',
        'crmcom_follow_up_types', 'crmcom_zero_credit_limit_means', 'crmcom_custom_fields',
    ] -%}
        {%- do found.update({name: var(name)}) -%}
    {%- endfor -%}
    {{ crmcom_transforms.as_text(crmcom_transforms.text_literal(tojson(found, sort_keys=true))) }}
{%- endmacro %}
