{# The age buckets by `crmcom_ageing_buckets`: a list of (name, upper bound or none). #}
{% macro age_buckets() %}
    {%- set bounds = var('crmcom_ageing_buckets', [30, 60, 90]) -%}
    {%- set buckets = [] -%}
    {%- set lower = namespace(days=1) -%}
    {%- for upper in bounds -%}
        {%- if upper is not integer or upper < lower.days -%}
            {{ exceptions.raise_compiler_error(
                'crmcom_ageing_buckets holds ascending numbers of days from 1 on, not ' ~ bounds
            ) }}
        {%- endif -%}
        {%- do buckets.append((lower.days ~ '-' ~ upper, upper)) -%}
        {%- set lower.days = upper + 1 -%}
    {%- endfor -%}
    {%- do buckets.append((lower.days ~ '+', none)) -%}
    {{ return(buckets) }}
{% endmacro %}


{#
    The bucket of an age in days. Where the age is a lower bound only, nothing but the last
    bucket is certain, and that only once the lower bound alone reaches it.
#}
{% macro age_bucket(days, is_lower_bound) -%}
    {%- set buckets = crmcom_transforms.age_buckets() -%}
    case
        when {{ days }} is null then null
        {%- if buckets | length > 1 %}
        when {{ is_lower_bound }} and {{ days }} <= {{ buckets[-2][1] }} then 'unknown_start'
        {%- endif %}
        {%- for name, upper in buckets if upper is not none %}
        when {{ days }} <= {{ upper }} then '{{ name }}'
        {%- endfor %}
        else '{{ buckets[-1][0] }}'
    end
{%- endmacro %}
